"""The report at the end of a shift, from real stores."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from tasks.report.markup import escape
from tasks.report.shift_page import headline, shift_markdown, shift_page
from tasks.shift import scan_shift, stores_below


@pytest.fixture
def results(tmp_path, write_frames, ingest_all):
    """A scan with two damaged frames, one in a sub-folder, and a ledger that is no ledger."""
    folder = tmp_path / "results"
    for path in write_frames(tmp_path / "a", range(5))[1:3]:
        path.write_bytes(path.read_bytes()[:-40])
    ingest_all(tmp_path / "a", folder / "a.zarr")
    write_frames(tmp_path / "b", range(3))
    ingest_all(tmp_path / "b", folder / "sample" / "b.zarr")
    (folder / "a.report.html").write_text("report")
    (folder / "broken.zarr" / "ledger").mkdir(parents=True)
    (folder / "broken.zarr" / "ledger" / "frames.jsonl").write_text("no JSON\n")
    (folder / ".hidden.zarr" / "ledger").mkdir(parents=True)
    (folder / ".hidden.zarr" / "ledger" / "frames.jsonl").write_text("")
    return folder


def shifts(results, since):
    return [scan_shift(store, results, since) for store in stores_below(results)]


def test_every_store_is_counted_once_with_its_failures(results):
    scans = shifts(results, datetime.now(UTC) - timedelta(hours=1))
    assert [scan.name for scan in scans] == ["a", "broken", "sample/b"]
    a, broken, b = scans
    assert (a.frames, a.ingested) == ({"ingested": 3, "quarantined": 2, "double": 0, "pending": 0}, 3)
    assert (b.ingested, b.failures, b.report) == (3, (), None)
    assert "not JSON" in broken.problem
    assert [(failure.n_frames, failure.example) for failure in a.failures] == [(2, "scan_1.cbf")]
    assert a.written_bytes == sum(file.stat().st_size for file in (results / "a.zarr").glob("*/c/0/0/0"))
    assert headline(scans) == "6 frames of 2 scans in the shift, 2 quarantined, 1 ledger damaged"


def test_what_came_before_the_shift_is_no_part_of_it(results):
    scans = shifts(results, datetime.now(UTC) + timedelta(seconds=1))
    assert [scan.ingested for scan in scans] == [0, 0, 0]
    assert scans[0].frames["ingested"] == 3


def test_the_page_names_scans_failures_and_reports_and_fetches_nothing(results):
    since, until = datetime.now(UTC) - timedelta(hours=8), datetime.now(UTC)
    scans = shifts(results, since)
    page = shift_page(results, since, until, scans)
    assert '<a href="a.report.html">a</a>' in page
    assert all(text in page for text in ("sample/b", "broken", "scan_1.cbf", escape(scans[0].failures[0].reason)))
    assert re.findall(r"(?:src|href)=\"(?!#|data:|a\.report)", page) == []
    text = shift_markdown(results, since, until, scans)
    assert text.startswith("# 6 frames of 2 scans in the shift, 2 quarantined, 1 ledger damaged\n")
    assert "| a | 3 | 3 | 2 | 0 | 0 |" in text


def test_the_rate_is_that_of_the_commits(results):
    (a, *_) = shifts(results, datetime.now(UTC) - timedelta(hours=1))
    assert a.frames_per_second is None, "all frames were committed at once"


def test_a_shift_without_trouble_says_so(tmp_path, write_frames, ingest_all):
    write_frames(tmp_path / "raw", range(2))
    ingest_all(tmp_path / "raw", tmp_path / "results" / "a.zarr")
    scans = shifts(tmp_path / "results", datetime.now(UTC) - timedelta(hours=1))
    assert headline(scans) == "2 frames of 1 scan in the shift, nothing refused, nothing pending"
