"""The drawing of a sparse graph shows each edge, each dilation and each number of channels."""

import io
from collections import Counter

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex

from dlsia_core.networks import SMSNet, SparseGraph, SparseGraphSettings
from dlsia_core.plots import plot_sparse_graph

GRAPH = SparseGraph(3, edges=((0, 1, 1), (0, 3, 4), (1, 2, 4), (1, 3, 8), (2, 3, 1)), outputs=(0, 3))


def legend_colors(figure) -> dict[str, str]:
    legend = figure.legends[0]
    return {t.get_text(): to_hex(h.get_color()) for t, h in zip(legend.texts, legend.legend_handles, strict=True)}


def marks(figure, marker: str) -> dict[float, str]:
    lines = [line for line in figure.axes[0].lines if line.get_marker() == marker and len(line.get_xdata()) == 1]
    return {float(line.get_xdata()[0]): line.get_markerfacecolor() for line in lines}


def test_arcs_join_the_nodes_in_the_color_of_their_dilation() -> None:
    figure = plot_sparse_graph(GRAPH)
    (arcs,) = (c for c in figure.axes[0].collections if isinstance(c, LineCollection))
    colors = legend_colors(figure)
    assert list(colors) == ["1", "4", "8"]
    assert len(set(colors.values())) == 3
    drawn = {
        (round(path.vertices[0, 0]), round(path.vertices[-1, 0])): to_hex(color)
        for path, color in zip(arcs.get_paths(), arcs.get_colors(), strict=True)
    }
    assert drawn == {(1, 2): colors["4"], (1, 3): colors["8"], (2, 3): colors["1"]}
    np.testing.assert_allclose([path.vertices[[0, -1], 1] for path in arcs.get_paths()], 0, atol=1e-9)


def test_squares_and_discs_show_the_edges_of_input_and_output() -> None:
    figure = plot_sparse_graph(GRAPH)
    colors = legend_colors(figure)
    assert marks(figure, "s") == {1: colors["1"], 2: "none", 3: colors["4"]}
    discs = marks(figure, "o")
    assert [node for node, color in discs.items() if color != "none"] == [0, 3]
    assert sorted(discs) == [0, 1, 2, 3]


@pytest.mark.parametrize("merge", ["sum", "concatenate"])
def test_a_network_shows_its_channels_and_size(merge: str) -> None:
    network = SMSNet(2, 2, depth=8, hidden_channels=5, merge=merge)
    figure = plot_sparse_graph(network)
    lowest = min(text.get_position()[1] for text in figure.axes[0].texts)
    shown = [text.get_text() for text in figure.axes[0].texts if text.get_position()[1] == lowest]
    assert Counter(shown) == Counter(["channels", *map(str, network.channels)])
    assert f"{network.parameter_count:,} parameters" in figure.axes[0].get_title(loc="left")


@pytest.mark.parametrize("depth", [1, 20, 200])
def test_small_and_large_graphs_are_drawn_without_pyplot(depth: int) -> None:
    """dlsia's drawing crashes on current matplotlib."""
    figure = plot_sparse_graph(SparseGraphSettings(depth=depth).draw(0), title="drawn")
    figure.savefig(io.BytesIO(), dpi=20)
    assert figure.axes[0].get_title(loc="left") == "drawn"
    assert plt.get_fignums() == []
