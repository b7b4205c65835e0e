"""Flow: train many inpainting models on the same frames and put them into one table; Tables 2 and 3 of paper (b)."""

from collections.abc import Sequence
from typing import Any

from prefect.artifacts import create_table_artifact
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from flows.embedded_server import served_flow
from flows.results import completed
from flows.sources import frame_source
from tasks.report_sweep import write_sweep
from tasks.settings import Settings, confine
from tasks.settings.ingest import IngestSettings
from tasks.settings.inpainting import InpaintingTraining, PresetName
from tasks.settings.stages import NormalizeSettings
from tasks.settings.sweep import GridName, SweepMember, SweepSettings
from tasks.store.lock import writer_lock
from tasks.sweep_grid import planned_sweep
from tasks.sweep_member import MemberRecord, SweepResult, sweep_member
from tasks.workers import Workers

LOCK = "members/lock"


class SweptModels(Settings):
    """What a sweep found."""

    output: str
    verdict: str
    best: str = Field(description="Folder of the best member's model, as process_scan takes it; empty: none.")
    table: tuple[dict[str, Any], ...] = Field(description="The rows of sweep.csv.")
    warnings: tuple[str, ...] = ()
    results: str = Field(description="sweep.csv.")
    report: str = Field(description="The HTML report.")

    @property
    def sentence(self) -> str:
        """The result in one line."""
        return self.verdict


@served_flow(
    name="sweep-inpainting", flow_run_name="sweep on {source}", task_runner=ThreadPoolTaskRunner(max_workers=4)
)
def sweep_inpainting(
    source: str,
    output: str,
    grid: GridName | Sequence[SweepMember] = "tunet",
    preset: PresetName = "quick",
    sweep: SweepSettings = SweepSettings(),
    training: InpaintingTraining = InpaintingTraining(),
    ingest: IngestSettings = IngestSettings(),
    normalize: NormalizeSettings | None = None,
    workers: Workers = Workers(),
) -> SweptModels:
    """Train the members of a grid one after the other; run again, finished ones are found and a killed one goes on.

    Args:
        source: Folder, file or glob of detector files, or a store made by process_scan, whose `normalized` is used.
        output: Folder for sweep.csv, report.html, and all members with their models.
        grid: 'tunet' or 'msdnet': the sweeps of Tables 2 and 3 of Chavez et al. 2022; or any list of members.
        preset: 'quick': minutes for a member. 'paper': as in Chavez et al. 2022; hours for a member on a GPU.
        sweep: How much smaller the networks of a named grid are, and when a member is given up.
        training: What is not to be as in the preset, for all members.
        ingest: How detector files become counts and valid.
        normalize: How counts are resized and scaled. Empty: the store's first, or the defaults for detector files.
        workers: Where shards are computed.
    """
    folder = confine(output, "store")
    plan = planned_sweep(grid, preset, training, sweep)
    found = frame_source(source, folder, ingest, normalize)
    if found.shape is not None:
        for member in plan.members:
            member.plan.grid(found.shape)
    with writer_lock(folder / LOCK):
        frames = found.frames(workers)
        records: list[MemberRecord] = []
        for member in plan.members:
            # One after the other: they share the device, and the rule that gives one up looks at those before it.
            before = tuple(record.course for record in records)
            asked = (frames, member, folder, source, member.rule(sweep), before)
            records.append(sweep_member.with_options(task_run_name=f"member {member.name}").submit(*asked).result())
        notes = (*plan.notes, *found.warnings)
        written = write_sweep(folder, plan.title, source, SweepResult(tuple(records)), notes)
    create_table_artifact(list(written.table), key="sweep-table", description=f"Sweep on {source}: {written.verdict}")
    best = SweepResult(tuple(records)).best
    return completed(
        SweptModels(
            output=str(folder),
            verdict=written.verdict,
            best=best.model if best else "",
            table=written.table,
            warnings=notes,
            results=written.results,
            report=written.report,
        )
    )
