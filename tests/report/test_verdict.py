"""The verdict adds up: every frame that the source holds is in one of its numbers."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlsia_core.errors import SettingError
from tasks.report import QuarantinedFrame, ReportContent, StageFacts, judge


def content(frames, found=None, warnings=()):
    quarantined = [QuarantinedFrame("f", "r", 1)] * frames.get("quarantined", 0)
    return ReportContent("s", "/s", "/z", "now", {}, {}, (), frames, quarantined, warnings, frames_found=found)


@pytest.mark.parametrize(
    ("frames", "found", "text", "level"),
    [
        ({"ingested": 48, "quarantined": 2}, 50, "48 of 50 frames processed, 2 quarantined, nothing lost", "attention"),
        ({"ingested": 1}, None, "1 of 1 frame processed, nothing lost", "good"),
        ({"ingested": 9, "double": 1}, 10, "9 of 10 frames processed, 1 double, nothing lost", "good"),
        ({"ingested": 9, "pending": 1}, 10, "9 of 10 frames processed, 1 pending, nothing lost", "attention"),
        ({"ingested": 6496}, 6497, "6,496 of 6,497 frames processed, 1 lost", "bad"),
        ({"ingested": 5}, 4, "5 of 4 frames processed, 1 more than the source holds", "bad"),
        ({"quarantined": 3}, 3, "0 of 3 frames processed, 3 quarantined, nothing lost", "bad"),
        ({}, None, "No frames found", "bad"),
        ({}, 2, "0 of 2 frames processed, 2 lost", "bad"),
    ],
)
def test_verdict_says_what_became_of_every_frame(frames, found, text, level):
    verdict = judge(content(frames, found))
    assert (verdict.text, verdict.level) == (text, level)


@given(
    st.dictionaries(st.sampled_from(["ingested", "quarantined", "double", "pending"]), st.integers(0, 40), min_size=1),
    st.integers(0, 5),
)
def test_numbers_of_the_verdict_add_up(frames, lost):
    text = judge(content(frames, sum(frames.values()) + lost)).text
    if text == "No frames found":
        assert sum(frames.values()) + lost == 0
        return
    processed, total = re.match(r"(\d+) of (\d+) frame", text).groups()
    others = re.findall(r", (\d+) (?:quarantined|double|pending|lost)", text)
    assert int(processed) + sum(map(int, others)) == int(total)
    assert ("nothing lost" in text) == (lost == 0)


def test_quarantined_frames_without_a_reason_are_a_problem(make_content):
    verdict = judge(make_content(quarantined=()))
    assert verdict.level == "bad"
    assert verdict.problems == ("The ledger counts 2 quarantined frames, but 0 are listed with a reason.",)


def test_holes_in_the_numbering_ask_for_attention(make_content):
    whole = {"frames": {"ingested": 2}, "frames_found": 2, "quarantined": ()}
    assert judge(make_content(**whole)).level == "good"
    assert judge(make_content(**whole, numbering_holes="1 hole: 00008")).level == "attention"


def test_warnings_ask_for_attention():
    assert judge(content({"ingested": 2}, warnings=("beam lost",))).level == "attention"


@pytest.mark.parametrize("frames", [{"lost": 1}, {"ingested": -1}])
def test_unknown_states_and_negative_counts_are_refused(frames):
    with pytest.raises(SettingError, match=r"lost.*known are ingested|negative"):
        content(frames)


def test_unknown_stage_states_are_refused():
    with pytest.raises(SettingError, match="'finished'; allowed are done, reused, left out"):
        StageFacts("ingest", "finished", 1)
