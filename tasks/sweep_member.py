"""Train one member of a sweep, or find its record; a hopeless one is stopped, and its state kept."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlsia_core.inpainting import inpainter_channels
from dlsia_core.networks import count_parameters, load_network
from dlsia_core.networks.registry import empty_network
from dlsia_core.networks.storage import write_atomically
from dlsia_core.training import EpochRecord, Hook, TrainingDivergedError
from dlsia_core.training.hooks import Start
from dlsia_core.training.median_stop import Course, MedianRule, Stop
from tasks.logs import logger_of
from tasks.normalized_frames import NormalizedFrames
from tasks.settings.base import Settings, digest
from tasks.stage import stage_task
from tasks.sweep_grid import PlannedMember
from tasks.train_model import origin_of, train_inpainter
from tasks.training_presets import config_for

FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"


class MemberRecord(Settings):
    """What became of a member; the figures are those of the finished network on gaps in frames held out."""

    member: str
    network: str
    settings: dict[str, Any]
    parameters: int | None = None
    epochs: int = 0
    best_epoch: int | None = None
    gaps: str = ""
    l1: float | None = None
    pearson_r: float | None = None
    l1_over_linear: float | None = None
    seconds: float = 0.0
    state: str
    reason: str = ""
    losses: tuple[float, ...] = ()
    model: str = ""

    @property
    def course(self) -> Course:
        return Course(self.losses, ended=self.state == FINISHED)


class HopelessError(Exception):
    """A member is stopped by the rule."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop.reason)
        self.stop = stop


class _StopHopeless(Hook):
    """Ends a training that the rule gives up; a resumed one is judged by all its epochs."""

    def __init__(self, rule: MedianRule, others: Sequence[Course]) -> None:
        self.rule, self.others = rule, others
        self.history: list[EpochRecord] = []
        self.epochs = 0

    def on_start(self, start: Start) -> None:
        self.history, self.epochs = list(start.history), start.epochs
        self._judge()

    def on_epoch(self, record: EpochRecord, seconds_left: float) -> None:  # noqa: ARG002
        self.history.append(record)
        self._judge()

    def _judge(self) -> None:
        # After its last epoch nothing is saved by giving it up.
        if len(self.history) < self.epochs and (stop := self.rule.judge(self._losses, self.others)):
            raise HopelessError(stop)

    @property
    def _losses(self) -> list[float]:
        return [record.loss for record in self.history]


def member_folder(folder: Path, frames: NormalizedFrames, member: PlannedMember) -> Path:
    """Where a member's record, state and model lie; the same training has the same folder in every sweep."""
    return folder / "members" / digest(origin_of(frames, member.plan))[:12]


@stage_task("sweep-member")
def sweep_member(
    frames: NormalizedFrames,
    member: PlannedMember,
    folder: Path,
    source: str,
    rule: MedianRule,
    others: tuple[Course, ...],
) -> MemberRecord:
    """Train a member, or return the record of it; others: the courses of the members before it.

    A training that diverged is recorded as failed, so that it does not end the sweep, and tried again by the next run.
    """
    work = member_folder(folder, frames, member)
    if found := _held(work / "record.json", member, rule, others):
        logger_of(__name__).info("member %s: %s before", member.name, found.state)
        return found
    facts = {
        "member": member.name,
        "network": member.plan.network,
        "settings": member.asked.training,
        "parameters": _parameters(frames, member),
    }
    hook = _StopHopeless(rule, others)
    try:
        model = train_inpainter.fn(frames, member.plan, work, f"member {member.name}", source, (hook,))
    except HopelessError as error:
        history = hook.history[: error.stop.epoch]
        record = MemberRecord(**facts, **_course(history), state=STOPPED, reason=str(error))
    except TrainingDivergedError as error:
        record = MemberRecord(**facts, **_course(hook.history), state=FAILED, reason=str(error))
    else:
        record = MemberRecord(**facts, **_figures(Path(model.folder)), state=FINISHED, model=model.folder)
    write_atomically(work / "record.json", record.model_dump_json(indent=2).encode())
    logger_of(__name__).info("member %s: %s %s", member.name, record.state, record.reason)
    return record


def _held(path: Path, member: PlannedMember, rule: MedianRule, others: Sequence[Course]) -> MemberRecord | None:
    """The record, if it still says what a training now would: finished, or stopped by today's rule as well."""
    if not path.exists():
        return None
    record = MemberRecord.model_validate_json(path.read_bytes())
    called = record.model_copy(update={"member": member.name})
    if record.state == FINISHED:
        return called if (Path(record.model) / "model.json").exists() else None
    if record.state == STOPPED and (stop := rule.judge(record.losses, others)):
        return called.model_copy(update={"reason": stop.reason})
    return None


def _parameters(frames: NormalizedFrames, member: PlannedMember) -> int:
    plan = member.plan
    config = config_for(plan.config, plan.grid(frames.shape).tile_shape)
    return count_parameters(empty_network({**config, **inpainter_channels(plan.network, plan.recipe)}))


def _course(history: Sequence[EpochRecord]) -> dict[str, Any]:
    losses = [record.loss for record in history]
    return {
        "epochs": len(losses),
        "best_epoch": min(range(len(losses)), key=losses.__getitem__, default=None),
        "seconds": round(sum(record.seconds for record in history), 1),
        "losses": tuple(losses),
    }


def _figures(folder: Path) -> dict[str, Any]:
    """Of the finished model: its scores in vertical gaps, as in the paper's sweeps, or in those that there are."""
    facts = load_network(folder)[1]
    curve, effort = facts["curve"], json.loads((folder / "training.json").read_text())
    scores = [row for row in facts["scores"] if row["method"] == "network"]
    row = next((row for row in scores if row["gaps"] == "vertical"), scores[0] if scores else {})
    return {
        "epochs": len(curve["train"]),
        "best_epoch": curve["best_epoch"],
        "seconds": effort["seconds"],
        "losses": tuple(curve["validation"] or curve["train"]),
        **{key: row[key] for key in ("gaps", "l1", "pearson_r", "l1_over_linear") if key in row},
    }


@dataclass(frozen=True)
class SweepResult:
    """All members in the order of the grid."""

    records: tuple[MemberRecord, ...]

    @property
    def best(self) -> MemberRecord | None:
        """The finished member with the least L1."""
        finished = [record for record in self.records if record.l1 is not None]
        return min(finished, key=lambda record: record.l1 or 0.0, default=None)

    def count(self, state: str) -> int:
        return sum(record.state == state for record in self.records)
