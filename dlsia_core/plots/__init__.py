"""Figures for papers and notebooks: every function returns a matplotlib Figure and leaves pyplot alone.

In a notebook, `display(figure)`; in a script, `figure.savefig("name.pdf")`.
"""

from dlsia_core.plots.ensembles import plot_ensemble
from dlsia_core.plots.instances import plot_directions, plot_lengths, plot_on_sphere
from dlsia_core.plots.latent_view import plot_latent_points, plot_latent_view
from dlsia_core.plots.regression import plot_regression
from dlsia_core.plots.segmentation import plot_segmentation
from dlsia_core.plots.sparse_graph import plot_sparse_graph
from dlsia_core.plots.training import plot_training

__all__ = [
    "plot_directions",
    "plot_ensemble",
    "plot_latent_points",
    "plot_latent_view",
    "plot_lengths",
    "plot_on_sphere",
    "plot_regression",
    "plot_segmentation",
    "plot_sparse_graph",
    "plot_training",
]
