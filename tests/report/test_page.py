"""The page: opens offline, runs no text of the scan, and says the same for the same content."""

import ast
import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import tasks.report
from tasks.report import LatentMap, LossCurve, QuarantinedFrame, StageFacts, render_report, write_report

VOID = {"br", "hr", "img", "input", "link", "meta", "source"}
HOSTILE = "<script>window.pwned=1</script><img src=x onerror='pwned=1'>\"&'</title></style>"


class Page(HTMLParser):
    """Elements, texts and scripts of a page; fails on tags that do not match."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self.scripts, self._open = [], [], [], []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] == "script":
            self.scripts.append((self.elements[-1][1], data))
        elif not self._open or self._open[-1] != "style":
            self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(self.texts)


def page_of(content):
    return Page(render_report(content))


def test_verdict_comes_first_and_everything_is_on_the_page(make_content):
    text = page_of(make_content(warnings=("beam lost",), numbering_holes="1 hole: 00008")).text
    assert text.index("48 of 50 frames processed, 2 quarantined, nothing lost") < text.index("Throughput")
    for fact in ("beam lost", "1 hole: 00008", "Content-MD5 does not match", "a_00044.cbf", "2.48 MB", "98 MB", "96",
                 "same frames and settings as before", "no ensemble was asked for", "normalized log counts",
                 "xarray.open_zarr('/data/processed/scan7.zarr', consolidated=False)",
                 "network.depth", "0.0066", "dlsia-flows",
                 "best validation loss 0.2 (L1) at epoch 2"):  # fmt: skip
        assert fact in text, fact


def test_page_fetches_nothing(make_content):
    text = render_report(make_content())
    for tag, attributes in Page(text).elements:
        for name in {"src", "srcset", "href", "action", "data", "poster", "xlink:href"} & attributes.keys():
            assert attributes[name].startswith("#" if tag == "a" else "data:image/png;base64,"), (tag, name)
    assert not Page(text).all("link")
    assert not Page(text).all("iframe")
    styles = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert styles
    assert not any(re.search(r"url\(|@import", style) for style in styles)


def test_policy_of_the_page_forbids_the_network_and_names_exactly_its_scripts(make_content):
    page = page_of(make_content())
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src ")
    run = [script for attributes, script in page.scripts if attributes.get("type") != "application/json"]
    hashes = {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in run}
    assert set(re.findall(r"'sha256-([^']+)'", policy)) == hashes
    assert len(run) == 3


def test_names_with_html_in_them_are_shown_and_not_run(make_content, make_pair, make_map):
    content = make_content(
        scan_name=HOSTILE, source=HOSTILE, store_path=HOSTILE, created=HOSTILE, versions={HOSTILE: HOSTILE},
        settings={HOSTILE: {HOSTILE: [HOSTILE]}}, stages=(StageFacts(HOSTILE, "done", 1, reason=HOSTILE),),
        quarantined=(QuarantinedFrame(HOSTILE, HOSTILE, 1),) * 2, warnings=(HOSTILE,), numbering_holes=HOSTILE,
        pictures=(make_pair(name=HOSTILE),), curves=(LossCurve("c <b>", [1.0], [1.0], 0, "<b>"),),
        inpainting_quality=({HOSTILE: HOSTILE},), left_out=((HOSTILE, HOSTILE),), group=HOSTILE,
        latent=make_map(3, frame_names=[HOSTILE, "</script><script>window.pwned=1</script>", "<!--<script>"]),
    )  # fmt: skip
    page = page_of(content)
    assert len(page.scripts) == len(page_of(make_content()).scripts)
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert not [image for image in page.all("img") if not image["src"].startswith("data:")]
    (data,) = [script for attributes, script in page.scripts if attributes.get("type") == "application/json"]
    assert "<" not in data
    assert page.text.count(HOSTILE) >= 15


def test_names_that_no_encoding_holds_are_shown_as_escapes(make_content, make_map, tmp_path):
    name = "bad\udcff\x00\u202egnp"
    content = make_content(scan_name=name, latent=make_map(2, frame_names=[name, "b"]))
    text = write_report(content, tmp_path / "report.html").read_text("utf-8")
    assert "Scan bad\\udcff\\x00\\u202egnp" in text


@pytest.mark.parametrize(
    "case",
    [
        {"frames": {"ingested": 1}, "frames_found": 1, "quarantined": (), "latent": None},
        {"latent": None, "curves": (), "pictures": (), "inpainting_quality": (), "left_out": (), "stages": ()},
        {"frames": {"quarantined": 2}, "frames_found": 2, "pictures": (), "latent": None, "settings": {}},
        {"frames": {}, "frames_found": 0, "quarantined": ()},
        {"curves": (LossCurve("empty", [], [], None, "L1"), LossCurve("zero", [0.0], [], 0, "L1"))},
        {"curves": (LossCurve("diverged", [float("nan"), float("inf")], [float("nan")], 0, "L1"),)},
        {"stages": (StageFacts("ingest", "done", 0, 0.0, 0.0, 0),)},
    ],
)
def test_scans_of_every_kind_make_a_page_that_parses(make_content, case):
    page = page_of(make_content(**case))
    assert "frames found" in page.text.lower() or "processed" in page.text
    assert page.all("html") == [{"lang": "en"}]


def test_map_that_was_left_out_says_why(make_content):
    nothing = np.zeros((0, 2), np.float32)
    latent = LatentMap(nothing, nothing[:, 0].astype(int), (), nothing[:, 0].astype(int), nothing,
                       left_out_reason="a map of 2 frames says nothing")  # fmt: skip
    page = page_of(make_content(latent=latent))
    assert "Left out: a map of 2 frames says nothing" in page.text
    assert len(page.scripts) == 1, "no map, no Bokeh"


def test_page_can_be_read_without_seeing_it(make_content):
    page = page_of(make_content())
    assert all(image.get("alt") for image in page.all("img"))
    assert all(header.get("scope") in ("col", "row") for header in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    targets = {link["href"][1:] for link in page.all("a")}
    assert targets <= set(names)


def test_same_content_makes_the_same_page(make_content):
    assert render_report(make_content()) == render_report(make_content())


def test_many_frames_stay_within_the_size_of_a_page_and_the_page_says_what_it_leaves_out(
    make_content, make_map, make_pair
):
    content = make_content(
        frames={"ingested": 3000, "quarantined": 1000},
        frames_found=4000,
        quarantined=[QuarantinedFrame(f"/data/raw/scan7/{i}.cbf", "truncated", i) for i in range(1000)],
        pictures=[make_pair((600, 600), name=f"frame {i}", seed=i) for i in range(7)],
        latent=make_map(3000, side=64),
    )
    text = render_report(content)
    assert len(text.encode()) < 15_000_000
    assert "Shown are the first 5 of 7 frames." in text
    assert "Shown are the first 500 of 1,000 quarantined frames." in text
    assert re.search(r"[\d,]+ of 3,000 points carry a thumbnail", text)


def test_report_that_fails_leaves_the_old_one_and_no_rubbish(make_content, tmp_path):
    path = write_report(make_content(), tmp_path / "new folder" / "report.html")
    before = path.read_bytes()
    assert before.decode("utf-8") == render_report(make_content())
    with pytest.raises(TypeError):
        write_report(make_content(scan_name=None, stages=5), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_report_needs_no_orchestration_and_no_storage():
    for file in Path(tasks.report.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            modules = [node.module] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not {name.split(".")[0] for name in modules} & {"zarr", "prefect", "dask", "xarray", "fabio"}
