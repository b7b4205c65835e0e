"""Loss curves as pictures, for light and dark pages."""

import io
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, MaxNLocator, NullLocator, ScalarFormatter

from tasks.report.content import LossCurve
from tasks.report.formats import number
from tasks.report.markup import Markup, element
from tasks.report.pixels import data_uri

SIZE_INCHES, DPI = (5.6, 3.4), 160


@dataclass(frozen=True)
class _Theme:
    text: str
    grid: str
    train: str
    validation: str
    best: str


LIGHT = _Theme("#3a4149", "#dfe3e8", "#8a94a0", "#0b62a8", "#c2410c")
DARK = _Theme("#c4ccd4", "#3a424b", "#8f9aa6", "#63b3f5", "#fb923c")


def curve_section(curve: LossCurve) -> Markup:
    """Show one training; where losses cannot stand on a log axis the text says so."""
    light, dark = (data_uri(curve_png(curve, theme)) for theme in (LIGHT, DARK))
    picture = element(
        "picture",
        element("source", srcset=dark, media="screen and (prefers-color-scheme: dark)"),
        element("img", src=light, alt=f"Loss of {curve.name} over epochs. {_in_words(curve)}"),
    )
    return element("figure", element("h3", curve.name, class_="name"), picture, element("figcaption", _in_words(curve)))


def curve_png(curve: LossCurve, theme: _Theme) -> bytes:
    """Draw losses over epochs on a log axis, the best epoch marked; epochs count from 1."""
    # Not pyplot: its global state is not safe in the threads of a task runner.
    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    with mpl.rc_context({"font.family": "DejaVu Sans", "font.size": 9}):
        axes = figure.add_subplot()
        _draw(axes, curve, theme)
        _style(axes, curve, theme)
        file = io.BytesIO()
        figure.savefig(file, format="png", transparent=True, metadata={"Software": None})
    return file.getvalue()


def _draw(axes: Axes, curve: LossCurve, theme: _Theme) -> None:
    lines = (("training", curve.train, theme.train, "--"), ("validation", curve.validation, theme.validation, "-"))
    for label, losses, color, style in lines:
        if len(losses):
            epochs = np.arange(1, len(losses) + 1)
            marker = "o" if len(losses) <= 20 else ""
            axes.plot(epochs, losses, style, color=color, marker=marker, markersize=3.5, linewidth=1.8, label=label)
    best = _best(curve)
    if best is not None:
        epoch, loss = best
        axes.axvline(epoch, color=theme.best, linewidth=1, linestyle=":")
        label = f"best: epoch {epoch}, {number(loss)}"
        axes.plot([epoch], [loss], "D", color=theme.best, markersize=7, markerfacecolor="none", label=label)
    if axes.lines:
        axes.legend(frameon=False, labelcolor=theme.text)


def _style(axes: Axes, curve: LossCurve, theme: _Theme) -> None:
    axes.set_xlabel("epoch", color=theme.text)
    axes.set_ylabel(f"loss ({curve.unit})", color=theme.text)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    n_epochs = max(len(curve.train), len(curve.validation), 1)
    margin = min(0.03 * n_epochs, 0.9)  # less than 1: there is no epoch 0
    axes.set_xlim(1 - margin, n_epochs + margin)
    if _fits_log(curve):
        axes.set_yscale("log")
        _log_ticks(axes)
    axes.grid(color=theme.grid, linewidth=0.8, which="major")
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.text, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(theme.text)


def _log_ticks(axes: Axes) -> None:
    low, high = axes.get_ylim()
    if high / low > 30:
        axes.yaxis.set_major_formatter(LogFormatterSciNotation())
        return
    # Less than about a decade: powers of ten alone would leave the axis with one number or none.
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)) if high / low > 3 else MaxNLocator(5))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(ScalarFormatter())


def _losses(curve: LossCurve) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    losses = np.array([*curve.train, *curve.validation], np.float64)
    return losses[np.isfinite(losses)]


def _fits_log(curve: LossCurve) -> bool:
    losses = _losses(curve)
    return bool(losses.size and losses.min() > 0)


def _best(curve: LossCurve) -> tuple[int, float] | None:
    losses = curve.validation if len(curve.validation) else curve.train
    if curve.best_epoch is None or curve.best_epoch >= len(losses):
        return None
    return curve.best_epoch + 1, float(losses[curve.best_epoch])


def _in_words(curve: LossCurve) -> str:
    if not _losses(curve).size:
        return "No finite loss was recorded."
    words = [f"{len(curve.train)} epochs of training"]
    best = _best(curve)
    if best is not None:
        kind = "validation" if len(curve.validation) else "training"
        words.append(f"best {kind} loss {number(best[1])} ({curve.unit}) at epoch {best[0]}")
    if len(curve.validation) == 0:
        words.append("no validation losses")
    words.append("logarithmic axis" if _fits_log(curve) else "linear axis, since a loss is zero or negative")
    return ", ".join(words) + "."
