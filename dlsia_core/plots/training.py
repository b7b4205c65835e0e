"""A training in pictures: losses, learning rate and metrics over the epochs, with the best epoch marked."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dlsia_core.errors import ArrayError
from dlsia_core.plots.style import class_colors, new_figure
from dlsia_core.training.fit import FitResult
from dlsia_core.training.history import EpochRecord

TRAINING, VALIDATION, BEST = "#7a8590", "#0072b2", "#d55e00"
PANEL = (3.6, 2.7)
FEW = 20
"""Up to so many epochs each gets a marker."""


def plot_training(
    training: FitResult | Sequence[EpochRecord], best_epoch: int | None = None, *, loss_unit: str = "loss"
) -> Figure:
    """Loss, learning rate and, where the records hold any, metrics of the validation set over the epochs from 0.

    training: what `fit` returned, or records as its `on_epoch` gets them, with best_epoch None = no epoch is marked.
    loss_unit: text at the axis. Losses are on a logarithmic axis where all are positive.
    Raises ArrayError where there is no record, or best_epoch is not among them.

    >>> records = [EpochRecord(k, 1e-3, 1 / (k + 1), 1 / (k + 0.5), seconds=1.0) for k in range(5)]
    >>> [axes.get_ylabel() for axes in plot_training(records, best_epoch=4, loss_unit="mean square error").axes]
    ['mean square error', 'learning rate']
    """
    if isinstance(training, FitResult):
        records, best_epoch = list(training.history), training.best_epoch if best_epoch is None else best_epoch
    else:
        records = list(training)
    epochs = [record.epoch for record in records]
    if not epochs or (best_epoch is not None and best_epoch not in epochs):
        raise ArrayError(f"the records are of epochs {epochs[:5]}…, the best is {best_epoch}; wanted one of them")
    metrics = metric_curves(records)
    figure, axes = new_figure(2 + bool(metrics), panel=PANEL)
    _losses(axes[0], records, best_epoch, loss_unit)
    rates = [record.learning_rate for record in records]
    axes[1].plot(epochs, rates, color="black", **_line(records), drawstyle="steps-mid")
    axes[1].set(yscale="log" if min(rates) > 0 else "linear", ylabel="learning rate")
    if metrics:
        _metrics(axes[2], epochs, metrics)
    for panel in axes:
        _epoch_axis(panel, epochs, best_epoch)
    return figure


def metric_curves(records: Sequence[EpochRecord]) -> dict[str, list[float]]:
    """Values of each metric per record, NaN where a record does not have it.

    >>> metric_curves([EpochRecord(0, 1e-3, 1.0, None, 1.0)])
    {}
    """
    kept: list[Mapping[str, float]] = [record.metrics for record in records]
    names = dict.fromkeys(name for metrics in kept for name in metrics)
    return {name: [float(metrics.get(name, np.nan)) for metrics in kept] for name in names}


def _losses(axes: Axes, records: Sequence[EpochRecord], best_epoch: int | None, unit: str) -> None:
    epochs = [record.epoch for record in records]
    validation = [np.nan if r.validation_loss is None else r.validation_loss for r in records]
    style = _line(records)
    axes.plot(epochs, [r.training_loss for r in records], "--", color=TRAINING, label="training", **style)
    if not np.isnan(validation).all():
        axes.plot(epochs, validation, "-", color=VALIDATION, label="validation", **style)
    if best_epoch is not None:
        loss = records[epochs.index(best_epoch)].loss
        label = f"best: epoch {best_epoch}, {loss:.3g}"
        axes.plot([best_epoch], [loss], "D", color=BEST, markersize=6, markerfacecolor="none", label=label)
    losses = np.array([[r.training_loss for r in records], validation])
    axes.set(yscale="log" if np.nanmin(losses) > 0 else "linear", ylabel=unit)
    axes.legend(frameon=False, fontsize=8)


def _line(points: Sequence[object]) -> dict[str, Any]:
    return {"marker": "o" if len(points) <= FEW else "", "markersize": 3, "linewidth": 1.4}


def _metrics(axes: Axes, epochs: Sequence[int], metrics: Mapping[str, Sequence[float]]) -> None:
    for (name, values), color in zip(metrics.items(), class_colors(len(metrics)), strict=True):
        axes.plot(epochs, values, color=color, label=name, **_line(epochs))
    axes.set_ylabel("metrics of the validation set")
    axes.legend(frameon=False, fontsize=8)


def _epoch_axis(axes: Axes, epochs: Sequence[int], best_epoch: int | None) -> None:
    if best_epoch is not None:
        axes.axvline(best_epoch, color=BEST, linewidth=1, linestyle=":", zorder=0)
    margin = max(0.03 * (epochs[-1] - epochs[0]), 0.3)
    axes.set_xlim(epochs[0] - margin, epochs[-1] + margin)
    axes.set_xlabel("epoch", fontsize=9)
    axes.yaxis.label.set_fontsize(9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="#e3e6ea", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
