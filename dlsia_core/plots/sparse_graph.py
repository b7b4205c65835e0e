"""A sparse network in a picture: which node feeds which, over how many pixels, with how many channels."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dlsia_core.networks.smsnet import SMSNet
from dlsia_core.networks.sparse_graph import SparseGraph
from dlsia_core.plots.style import NO_VALUE

INCHES_PER_NODE, LEAST_INCHES, MOST_INCHES = 0.36, 5.0, 40.0
ROW = 0.95  # height of a row below the nodes, in distances between nodes
LEFT, RIGHT = 3.4, 0.8  # room beside input and output, in distances between nodes
INK, FAINT = "#26323d", "#8b98a3"


def plot_sparse_graph(drawn: SparseGraph | SMSNet, title: str | None = None) -> Figure:
    """Nodes from input I to output O on one line; each arc is an edge among hidden nodes, read from left to right.

    Below each hidden node, a square in the color of the dilation of its edge from the input, and a disc where the
    output reads it; the disc below I stands for the edge from input to output. Grey outlines: no such edge. For a
    network, the channels of each node are written below. title: None = depth, number of edges, the graph's gamma and
    alpha, and the parameters of a network.

    >>> from dlsia_core.networks import SparseGraphSettings
    >>> figure = plot_sparse_graph(SparseGraphSettings(depth=6).draw(seed=0), title="six nodes")
    >>> figure.axes[0].get_title(loc="left")
    'six nodes'
    """
    network = drawn if isinstance(drawn, SMSNet) else None
    graph = drawn.graph if isinstance(drawn, SMSNet) else drawn
    colors = _dilation_colors(graph)
    figure, axes, unit = _new_axes(graph, rows=3 if network else 2)
    axes.set_title(_title(graph, network) if title is None else title, loc="left", fontsize=9, color=INK)
    points = 0.58 * unit * 72  # diameter of a node
    _draw_arcs(axes, graph, colors)
    _draw_nodes(axes, graph.depth, points)
    _draw_rows(axes, graph, colors, points)
    if network:
        _name_row(axes, 3, "channels")
        for node, count in enumerate(network.channels):
            axes.text(node, -3 * ROW, str(count), ha="center", va="center_baseline", fontsize=points * 0.5, color=INK)
    keys = [Line2D([], [], color=color, linewidth=3, label=str(dilation)) for dilation, color in colors.items()]
    style: dict[str, Any] = {"ncols": min(len(keys), 12), "frameon": False, "handlelength": 1.2, "labelcolor": INK}
    key = figure.legend(handles=keys, loc="outside lower center", fontsize=8, title_fontsize=8, **style)
    key.set_title("dilation (pixels)")
    return figure


def _new_axes(graph: SparseGraph, rows: int) -> tuple[Figure, Axes, float]:
    """Figure, axes in distances between nodes, and inches per such distance."""
    above = 0.4 + max((_height(target - source) for source, target, _ in graph.edges if source), default=0.5)
    below = rows * ROW + 0.4
    across = graph.depth + 1 + LEFT + RIGHT
    width = min(MOST_INCHES, max(LEAST_INCHES, across * INCHES_PER_NODE))
    unit = min(width / across, INCHES_PER_NODE)
    figure = Figure(figsize=(width, (above + below) * unit + 0.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)  # pyplot would keep every figure alive
    axes = figure.subplots()
    axes.set(xlim=(-LEFT, graph.depth + 1 + RIGHT), ylim=(-below, above), aspect="equal")
    axes.axis("off")
    return figure, axes, unit


def _title(graph: SparseGraph, network: SMSNet | None) -> str:
    parts = [f"depth {graph.depth}", f"{len(graph.edges) + len(graph.outputs)} edges"]
    if graph.gamma is not None and graph.alpha is not None:
        parts.append(f"γ = {graph.gamma:.2f}, α = {graph.alpha:.2f}")
    if network:
        parts.append(f"{network.parameter_count:,} parameters")
    return " · ".join(parts)


def _dilation_colors(graph: SparseGraph) -> dict[int, str]:
    """One color per dilation that occurs, from dark = near to bright = far, never as pale as the paper."""
    dilations = sorted({dilation for *_, dilation in graph.edges})
    shades = mpl.colormaps["viridis"](np.linspace(0, 0.92, len(dilations)))
    return {dilation: to_hex(shade) for dilation, shade in zip(dilations, shades, strict=True)}


def _height(length: int) -> float:
    """Of an arc: less than proportional, so that a few long edges don't press all others flat."""
    return 0.75 * float(length**0.8)


def _draw_arcs(axes: Axes, graph: SparseGraph, colors: Mapping[int, str]) -> None:
    """Long arcs first, so that short ones lie on top of them."""
    hidden = sorted((edge for edge in graph.edges if edge[0] > 0), key=lambda edge: edge[0] - edge[1])
    angle = np.linspace(np.pi, 0, 60)
    arcs = []
    for source, target, _ in hidden:
        x = (source + target) / 2 + (target - source) / 2 * np.cos(angle)
        arcs.append(np.column_stack((x, _height(target - source) * np.sin(angle))))
    shades = [colors[dilation] for *_, dilation in hidden]
    axes.add_collection(LineCollection(arcs, colors=shades, linewidths=1.8, capstyle="round", zorder=2))


def _draw_nodes(axes: Axes, depth: int, points: float) -> None:
    axes.plot([0, depth + 1], [0, 0], color=FAINT, linewidth=0.8, zorder=1)
    axes.plot(range(1, depth + 1), [0] * depth, "o", color="white", mec=INK, ms=points, zorder=3)
    axes.plot([0, depth + 1], [0, 0], "s", color=INK, ms=points, zorder=3)
    for node in range(depth + 2):
        text, color = {0: ("I", "white"), depth + 1: ("O", "white")}.get(node, (str(node), INK))
        axes.text(node, 0, text, ha="center", va="center_baseline", fontsize=points * 0.5, color=color, zorder=4)


def _draw_rows(axes: Axes, graph: SparseGraph, colors: Mapping[int, str], points: float) -> None:
    """From the input: squares in the color of the dilation. To the output: discs."""
    _name_row(axes, 1, "from input")
    _name_row(axes, 2, "to output")
    dilations = {target: dilation for source, target, dilation in graph.edges if source == 0}
    for node in range(graph.depth + 1):
        if node:
            _draw_mark(axes, "s", (node, -ROW), colors[dilations[node]] if node in dilations else None, points)
        _draw_mark(axes, "o", (node, -2 * ROW), INK if node in graph.outputs else None, points)


def _name_row(axes: Axes, row: int, name: str) -> None:
    axes.text(-0.8, -row * ROW, name, ha="right", va="center_baseline", fontsize=8, color=INK)


def _draw_mark(axes: Axes, marker: str, place: tuple[float, float], color: str | None, points: float) -> None:
    axes.plot(*place, marker=marker, ms=points * 0.7, mfc=color or "none", mec=color or NO_VALUE)
