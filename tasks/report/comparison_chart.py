"""L1 of all methods with their intervals, and what noise alone makes, as one chart for each direction of gaps."""

from collections.abc import Sequence

from tasks.report.comparison import Scored
from tasks.report.markup import Markup, element

WIDTH, LEFT, RIGHT, ROW, TOP, BOTTOM = 560, 168, 64, 30, 12, 44
LABEL = 22
"""Characters of a method's name that fit."""


def chart(gaps: str, ordered: Sequence[Scored]) -> Markup:
    """The methods from the best to the worst; one dot and interval each, a line at the noise floor."""
    floor = ordered[0].score.noise_floor
    ends = [s.score.l1_high or s.score.l1 for s in ordered] + ([floor] if floor else [])
    step = nice_step(max(ends) / 5)
    top = step * -(-max(ends) // step)
    height = TOP + ROW * len(ordered) + BOTTOM
    parts = [*_axis(top, step, height), *(_row(number, scored, top) for number, scored in enumerate(ordered))]
    if floor:
        parts.append(_floor(floor, top, height))
    title = f"L1 in {gaps} gaps, in 1e-3 of the normalized scale"
    picture = element("svg", *parts, viewBox=f"0 0 {WIDTH} {height}", role="img", aria_label=title, class_="chart")
    return element("figure", element("h3", title), picture)


def nice_step(least: float) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is at least as large.

    >>> nice_step(0.0031), nice_step(0.2)
    (0.005, 0.2)
    """
    power = 10.0**-12
    while True:
        for factor in (1, 2, 2.5, 5):
            if power * factor >= least * (1 - 1e-9):
                return float(f"{power * factor:.6g}")
        power *= 10


def _x(value: float, top: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * value / top


def _axis(top: float, step: float, height: int) -> list[Markup]:
    bottom = height - BOTTOM
    parts = []
    for number in range(round(top / step) + 1):
        x = f"{_x(number * step, top):.1f}"
        parts.append(element("line", x1=x, x2=x, y1=TOP, y2=bottom, class_="chart-grid"))
        label = f"{1e3 * number * step:g}"
        parts.append(element("text", label, x=x, y=bottom + 18, text_anchor="middle", class_="chart-soft"))
    return parts


def _row(number: int, scored: Scored, top: float) -> Markup:
    row, y = scored.score, TOP + ROW * number + ROW // 2
    css = "chart-model" if scored.is_model else "chart-classical"
    name = row.method if len(row.method) <= LABEL else f"…{row.method[1 - LABEL :]}"
    parts = [element("text", name, x=LEFT - 12, y=y + 5, text_anchor="end", class_="chart-text")]
    if row.l1_low is not None and row.l1_high is not None:
        x1, x2 = (f"{_x(bound, top):.1f}" for bound in (row.l1_low, row.l1_high))
        parts.append(element("line", x1=x1, x2=x2, y1=y, y2=y, class_=f"{css} chart-interval"))
    parts.append(element("circle", cx=f"{_x(row.l1, top):.1f}", cy=y, r=5, class_=css))
    end = _x(row.l1_high or row.l1, top)
    parts.append(element("text", f"{1e3 * row.l1:.2f}", x=f"{end + 10:.1f}", y=y + 5, class_="chart-text"))
    return element("g", *parts)


def _floor(floor: float, top: float, height: int) -> Markup:
    x, bottom = f"{_x(floor, top):.1f}", height - BOTTOM
    line = element("line", x1=x, x2=x, y1=TOP, y2=bottom, class_="chart-floor")
    text = f"noise alone: {1e3 * floor:.2f}"
    label = element("text", text, x=x, y=bottom + 36, text_anchor="middle", class_="chart-floor-text")
    return element("g", line, label)
