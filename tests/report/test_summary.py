"""The short report for Prefect: the same facts, small enough for a database."""

import json
import re

from tasks.report import QuarantinedFrame, StageFacts, summary_markdown, throughput_rows


def test_summary_holds_verdict_throughput_and_quarantined_frames(make_content):
    text = summary_markdown(make_content())
    assert text.startswith("# 48 of 50 frames processed, 2 quarantined, nothing lost\n")
    assert "| ingest | done | 48 | 0.5 | 96 | 98,000,000 |  |" in text
    assert "- /data/raw/scan7/a\\_00031.cbf (2.48 MB): Content-MD5 does not match" in text
    assert "uncertainty: no ensemble was asked for" in text


def test_picture_of_the_largest_and_noisiest_frame_stays_small(make_content, make_pair):
    text = summary_markdown(make_content(pictures=(make_pair((2000, 1400)),)))
    (uri,) = re.findall(r"\((data:image/png;base64,[^)]+)\)", text)
    assert len(uri) < 150_000


def test_tables_of_the_summary_survive_names_with_markup(make_content):
    stage = StageFacts("a|b", "done", 1, reason="it's <script>\n| *bold*")
    text = summary_markdown(make_content(stages=(stage,), scan_name="<b>`x`"))
    assert "| a\\|b | done | 1 | 0 | – | – | it's &lt;script&gt; \\| \\*bold\\* |" in text
    assert "**&lt;b&gt;\\`x\\`**" in text
    assert "<" not in text


def test_long_lists_are_cut_and_counted(make_content):
    frames = [QuarantinedFrame(f"f{i}", "truncated", 1) for i in range(60)]
    text = summary_markdown(make_content(frames={"quarantined": 60}, frames_found=60, quarantined=frames))
    assert text.count("truncated") == 20
    assert "- and 40 frames more, in the report" in text


def test_rows_are_plain_json_without_nan(make_content):
    rows = throughput_rows(make_content())
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert rows[0] == {
        "stage": "ingest", "state": "done", "frames": 48, "seconds": 0.5, "frames per second": 96.0,
        "bytes written": 98_000_000, "remark": "",
    }  # fmt: skip
    assert rows[1]["frames per second"] is None


def test_content_without_anything_makes_a_summary(make_content):
    text = summary_markdown(
        make_content(stages=(), frames={}, frames_found=None, quarantined=(), pictures=(), left_out=())
    )
    assert text.startswith("# No frames found")
