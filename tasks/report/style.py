"""Style and script of the page. No fonts, images or scripts from elsewhere."""

CSS = """
:root { color-scheme: light dark; --page: #fff; --card: #f6f8fa; --text: #1c2024; --soft: #57606a; --line: #d5dae0;
  --good: #1a7f45; --attention: #9a6200; --bad: #c1272d; --link: #0b62a8; --bar: #8fb9dc; }
@media screen and (prefers-color-scheme: dark) { :root { --page: #14181c; --card: #1d2329; --text: #e4e8ec;
  --soft: #9fa9b3; --line: #38414a; --good: #4fc97f; --attention: #e8b04a; --bad: #ff7b78; --link: #7cc0f8;
  --bar: #35627f; } }
* { box-sizing: border-box; } [hidden] { display: none !important; }
body { margin: 0; background: var(--page); color: var(--text); font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 24px 28px 64px; }
h1, h2, h3 { line-height: 1.25; overflow-wrap: anywhere; }
h1 { font-size: 1.05rem; margin: 0 0 4px; color: var(--soft); font-weight: 600; }
h2 { font-size: 1.35rem; margin: 48px 0 12px; padding-top: 14px; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 0 0 8px; }
a { color: var(--link); }
p, figcaption { max-width: 80ch; }
.skip { position: absolute; left: -999px; }
.skip:focus { left: 8px; top: 8px; background: var(--page); padding: 4px 8px; }
.verdict { border-left: 8px solid var(--level); padding: 2px 0 2px 18px; margin: 0 0 18px; }
.verdict .text { font-size: 1.9rem; font-weight: 700; line-height: 1.25; margin: 0; max-width: none; }
.verdict .level { color: var(--level); font-weight: 700; }
.verdict p { margin: 6px 0 0; }
.good { --level: var(--good); } .attention { --level: var(--attention); } .bad { --level: var(--bad); }
.states { display: block; width: 100%; height: 14px; margin: 0 0 6px; }
.state-ingested { fill: var(--good); } .state-quarantined { fill: var(--attention); }
.state-double { fill: var(--soft); } .state-pending { fill: var(--bar); } .state-lost { fill: var(--bad); }
.key { color: var(--soft); font-size: .875rem; }
.key .entry { white-space: nowrap; margin-right: 18px; }
.swatch { vertical-align: -1px; }
dl.facts { display: grid; grid-template-columns: max-content 1fr; gap: 3px 18px; margin: 18px 0 0; }
dl.facts dt { color: var(--soft); } dl.facts dd { margin: 0; overflow-wrap: anywhere; }
nav { display: flex; flex-wrap: wrap; margin: 20px 0 0; font-size: .925rem; }
nav a { margin-right: 16px; white-space: nowrap; }
ul.warnings { margin: 18px 0 0; padding: 12px 16px 12px 34px; border: 1px solid var(--level);
  border-left-width: 8px; background: var(--card); }
ul.warnings li { overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin-bottom: 14px; }
table { border-collapse: collapse; width: 100%; font-size: .925rem; }
caption { text-align: left; color: var(--soft); padding: 0 0 6px; }
th, td { text-align: left; vertical-align: top; padding: 6px 14px 6px 0; border-bottom: 1px solid var(--line); }
thead th { color: var(--soft); font-weight: 600; border-bottom-width: 2px; vertical-align: bottom; }
tbody th { font-weight: 600; } tbody th.file { font-weight: 400; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.nowrap { white-space: nowrap; width: 1%; }
.file { overflow-wrap: anywhere; min-width: 16em; }
.share { width: 150px; } .share svg { display: block; width: 140px; height: 10px; margin-top: 7px; }
.share rect { fill: var(--bar); }
.note { color: var(--soft); font-size: .925rem; }
figure { margin: 0 0 34px; } figcaption { color: var(--soft); font-size: .875rem; margin-top: 8px; }
figure > img { display: block; max-width: 100%; height: auto; }
figure.pair figcaption { max-width: none; }
.panels { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 10px; margin-bottom: 10px; }
.panel-title { display: block; font-size: .875rem; color: var(--soft); margin-bottom: 3px; }
.frame { position: relative; line-height: 0; } .frame img { width: 100%; image-rendering: pixelated; }
.whole img { image-rendering: auto; }
.box { position: absolute; inset: 0; width: 100%; height: 100%; }
.box rect { fill: none; vector-effect: non-scaling-stroke; }
.box-outer { stroke: #000; stroke-width: 3.5px; } .box-inner { stroke: #fff; stroke-width: 1.5px; }
.bar-line { display: flex; flex-wrap: wrap; align-items: flex-start; gap: 4px 28px; font-size: .875rem; }
.bar { display: block; max-width: 100%; } .bar img { display: block; height: 14px; image-rendering: auto; }
.bar img, .ticks { width: 380px; max-width: 100%; }
.ticks { display: flex; justify-content: space-between; font-variant-numeric: tabular-nums; }
.unit { color: var(--soft); display: block; }
.panels.methods { grid-template-columns: repeat(var(--columns), minmax(0, 1fr)); margin-bottom: 16px; }
.panels.methods .panel-title { overflow-wrap: anywhere; }
.bounds { color: var(--soft); display: block; font-size: .85em; }
.number.wrap { white-space: normal; overflow-wrap: anywhere; min-width: 5.5em; }
svg.chart { width: 100%; max-width: 640px; display: block; font-size: 14px; }
.chart-text { fill: var(--text); } .chart-soft { fill: var(--soft); } .chart-grid { stroke: var(--line); }
.chart-model { fill: var(--link); stroke: var(--link); stroke-width: 2px; }
.chart-classical { fill: var(--page); stroke: var(--soft); stroke-width: 2px; }
.chart-floor { stroke: var(--attention); stroke-width: 2px; stroke-dasharray: 5 4; }
.chart-floor-text { fill: var(--attention); }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 8px 28px; }
.curves img { width: 100%; max-width: 640px; display: block; }
.map-tools { border: 0; margin: 0 0 10px; padding: 0; } .map-tools legend { float: left; margin-right: 14px; }
.map-tools label { margin-right: 16px; }
#latent-map { min-height: 560px; }
.bk-Tooltip { opacity: 1 !important; }
.bar-line + .bar-line { margin-top: 10px; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 2px 20px; padding: 0; margin: 8px 0 14px; }
.legend svg { vertical-align: -2px; margin-right: 5px; }
.still { display: none; max-width: 100%; }
details { border: 1px solid var(--line); border-radius: 6px; margin: 0 0 8px; padding: 0 14px; }
details[open] { padding-bottom: 10px; }
details caption { position: absolute; clip-path: inset(50%); }
summary { cursor: pointer; padding: 8px 0; font-weight: 600; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 14px; overflow-x: auto;
  font-size: .875rem; }
code, pre { font-family: ui-monospace, "DejaVu Sans Mono", monospace; }
@media print {
  body { font-size: 10.5pt; } main { max-width: none; padding: 0; }
  nav, .map-tools, #latent-map, .skip { display: none; }
  .still { display: block; } h2 { margin-top: 22pt; } h2, h3, summary { break-after: avoid; }
  figure, tr, li { break-inside: avoid; } .verdict .text { font-size: 18pt; } .by-number { display: none !important; }
  .by-cluster { display: flex !important; }
  pre { white-space: pre-wrap; }
}
"""

MAP_SCRIPT = """
(async function () {
  const text = document.getElementById("latent-map-data").textContent;
  await Bokeh.embed.embed_item(JSON.parse(text));
  const glyphs = Bokeh.documents[0].roots()[0].renderers;
  const color = function (by) {
    for (const renderer of glyphs) {
      renderer.glyph.fill_color = {field: by + "_color"};
      renderer.glyph.line_color = {field: by + "_color"};
    }
    for (const other of ["cluster", "number"]) {
      document.querySelectorAll(".by-" + other).forEach(function (part) { part.hidden = other !== by; });
    }
  };
  document.querySelectorAll("input[name=color-by]").forEach(function (choice) {
    choice.addEventListener("change", function () { color(choice.value); });
    if (choice.checked) { color(choice.value); }
  });
})();
"""

PRINT_SCRIPT = """
window.addEventListener("beforeprint", function () {
  document.querySelectorAll("details").forEach(function (part) { part.open = true; });
});
"""
