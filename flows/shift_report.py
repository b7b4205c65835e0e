"""Flow: the report at the end of a shift, over all scans of a results folder."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

from prefect.artifacts import create_markdown_artifact
from pydantic import Field

from flows.embedded_server import served_flow
from flows.results import completed
from tasks.errors import SourceError
from tasks.report.document import write_document
from tasks.report.shift_page import headline, shift_markdown, shift_page
from tasks.settings import Settings, confine
from tasks.shift import scan_shift, stores_below


class ShiftResult(Settings):
    """The shift in figures, and where its page is."""

    report: str
    headline: str
    scans: int
    frames: int = Field(description="Ingested in the shift.")
    quarantined: int
    damaged_ledgers: int

    @property
    def sentence(self) -> str:
        return self.headline


@served_flow(name="shift-report", flow_run_name="shift report of {results}")
def shift_report(results: Path, hours: Annotated[float, Field(gt=0)] = 8.0) -> ShiftResult:
    """Write one page over all scan stores of a folder: frames by state, failures with reasons, throughput.

    Raises `SourceError` if the folder is not there.

    Args:
        results: Folder of the scan stores; the page is written there, as shift-<time>.html.
        hours: Length of the shift, which ends now.
    """
    folder = confine(results, "store")
    if not folder.is_dir():
        raise SourceError(f"results folder {folder} is not a folder; give the one that runs write their stores to")
    until = datetime.now(UTC)
    since = until - timedelta(hours=hours)
    scans = [scan_shift(store, folder, since) for store in stores_below(folder)]
    page = write_document(shift_page(folder, since, until, scans), folder / f"shift-{until:%Y%m%d-%H%M%S}.html")
    create_markdown_artifact(
        shift_markdown(folder, since, until, scans), key="shift-report", description=f"Shift of {folder}"
    )
    return completed(
        ShiftResult(
            report=str(page),
            headline=headline(scans),
            scans=len(scans),
            frames=sum(scan.ingested for scan in scans),
            quarantined=sum(scan.frames["quarantined"] for scan in scans),
            damaged_ledgers=sum(bool(scan.problem) for scan in scans),
        )
    )
