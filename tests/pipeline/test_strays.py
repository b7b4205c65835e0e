"""Files that do not belong to a scan, or are away for a while: they stop nothing, and nothing of theirs is lost."""

import numpy as np
import pytest

from tasks.errors import SourceError
from tasks.ingest import enter_frames, ingest_batch, prepare_ingest
from tasks.readers import ValidityRule
from tasks.settings.ingest import IngestSettings
from tasks.store import FrameState, open_store
from tasks.survey import survey_source
from tasks.workers import Workers


def test_a_single_file_whose_header_declares_another_shape_does_not_stop_the_scan(tmp_path, write_frames, ingest_all):
    """A flipped bit in one header refused a whole night's scan."""
    paths = write_frames(tmp_path / "raw", range(11))
    content = paths[10].read_bytes()
    assert content.count(b"X-Binary-Size-Fastest-Dimension: 64") == 1
    paths[10].write_bytes(content.replace(b"Fastest-Dimension: 64", b"Fastest-Dimension: 65"))
    store = ingest_all(tmp_path / "raw", tmp_path / "scan.zarr")
    (refused,) = store.frames.in_state(FrameState.QUARANTINED)
    assert store.n_frames == 10
    assert refused.file == str(paths[10])


@pytest.mark.parametrize("n_usual", [9, 10, 40])
def test_a_whole_file_of_another_shape_is_refused_among_however_many(tmp_path, write_frames, ingest_all, n_usual):
    write_frames(tmp_path / "raw", range(n_usual))
    write_frames(tmp_path / "raw", [n_usual], shape=(40, 64))
    with pytest.raises(SourceError, match="several shapes"):
        ingest_all(tmp_path / "raw", tmp_path / "scan.zarr")
    assert not (tmp_path / "scan.zarr").exists()


def test_a_file_that_is_back_as_it_was_is_ingested(tmp_path, write_frames, ingest_all, expected):
    """A file that could not be opened once, as a disk was away, stayed quarantined for ever."""
    paths = write_frames(tmp_path / "raw", [1, 2])
    survey = survey_source(str(tmp_path / "raw"), None, ValidityRule())
    scan = prepare_ingest(tmp_path / "scan.zarr", survey, IngestSettings(batch_frames=16))
    enter_frames(scan, survey, str(tmp_path / "raw"))
    paths[1].rename(tmp_path / "away.cbf")
    ingest_batch.fn(scan, IngestSettings(batch_frames=16), Workers(threads=1))
    assert len(open_store(scan).frames.in_state(FrameState.QUARANTINED)) == 1
    (tmp_path / "away.cbf").rename(paths[1])
    store = ingest_all(tmp_path / "raw", tmp_path / "scan.zarr")
    np.testing.assert_array_equal(store.read("counts", 0, 2), expected([1, 2]))
