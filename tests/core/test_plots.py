"""Figures: limits of their own in every panel, class colors, one scale for what is compared, no pyplot."""

import io

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import BoundaryNorm, LogNorm, to_rgba
from matplotlib.figure import Figure

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.networks import build_network
from dlsia_core.plots import plot_ensemble, plot_regression, plot_segmentation, plot_training
from dlsia_core.plots.style import CLASS_COLORS, NO_VALUE, class_colors, value_limits
from dlsia_core.training import ArrayExamples, EpochRecord, TrainSettings, fit, weighted_l2

IMAGE = np.random.default_rng(0).normal(1000, 10, (12, 20)).astype(np.float32)
LABEL = (np.arange(240).reshape(12, 20) // 80).astype(np.uint8)


def panel(figure: Figure, title: str):
    return next(axes for axes in figure.axes if axes.get_title() == title)


def panels(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def colors_at(figure: Figure, title: str) -> np.ndarray:
    """RGBA (y, x, 4) that the panel's first image shows."""
    picture = panel(figure, title).images[0]
    return picture.cmap(picture.norm(picture.get_array()))


def drawn(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def test_the_label_panel_has_class_colors_and_not_the_limits_of_the_image() -> None:
    """In dlsia the label panel was drawn with the image's limits, here 1000, and came out in one color."""
    label = LABEL.copy()
    label[0, :5] = 255
    figure = plot_segmentation(IMAGE, label, class_names=["background", "fiber", "void"])
    shown = colors_at(figure, "label")
    for number in range(3):
        np.testing.assert_allclose(shown[label == number], [to_rgba(CLASS_COLORS[number])] * (label == number).sum())
    np.testing.assert_allclose(shown[label == 255], [to_rgba(NO_VALUE)] * 5)
    assert isinstance(panel(figure, "label").images[0].norm, BoundaryNorm)
    low, high = panel(figure, "image").images[0].get_clim()
    assert 950 < low < 990 < 1010 < high < 1050
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["background", "fiber", "void", "unlabelled (255)"]


def test_panels_of_a_segmentation_cover_the_same_pixels_and_name_their_axes() -> None:
    probabilities = np.random.default_rng(1).dirichlet(np.ones(3), size=(12, 20)).transpose(2, 0, 1)
    figure = plot_segmentation(IMAGE, LABEL, probabilities=probabilities, unit="counts")
    assert panels(figure) == ["image", "label", "prediction", "probability of the prediction", "prediction on image"]
    for title in panels(figure):
        axes = panel(figure, title)
        assert (axes.get_xlim(), axes.get_ylim()) == ((-0.5, 19.5), (11.5, -0.5))
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("x (pixels)", "y (pixels)")
    assert "counts" in [axes.get_ylabel() for axes in figure.axes]
    assert np.array_equal(panel(figure, "prediction").images[0].get_array(), probabilities.argmax(axis=0))
    probability = panel(figure, "probability of the prediction").images[0]
    assert probability.get_clim() == (0, 1)
    np.testing.assert_allclose(probability.get_array(), probabilities.max(axis=0))
    assert drawn(figure) == drawn(plot_segmentation(IMAGE, LABEL, probabilities=probabilities, unit="counts"))


def test_the_overlay_leaves_unlabelled_pixels_clear() -> None:
    label = LABEL.copy()
    label[:, 10:] = 255
    overlay = panel(plot_segmentation(IMAGE, label), "label on image").images[1].get_array()
    assert (overlay[:, 10:, 3] == 0).all()
    assert (overlay[:, :10, 3] > 0.3).all()
    np.testing.assert_allclose(overlay[0, 0, :3], to_rgba(CLASS_COLORS[0])[:3])


def test_another_value_can_stand_for_unlabelled() -> None:
    label = LABEL.astype(np.int16)
    label[0, 0] = -1
    figure = plot_segmentation(IMAGE, label, ignore=-1)
    assert panel(figure, "label").images[0].get_array().mask.sum() == 1
    assert "unlabelled (-1)" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_class_colors_differ_for_21_classes_and_are_refused_beyond() -> None:
    colors = np.array(class_colors(21))
    apart = np.linalg.norm(colors[:, None] - colors, axis=2) + 9 * np.eye(21)
    assert apart.min() > 0.1
    with pytest.raises(SettingError, match="22 classes; colors can be told apart for 21 at most"):
        class_colors(22)


def test_a_prediction_is_compared_with_its_target_on_one_scale() -> None:
    figure = plot_regression(IMAGE + 5, IMAGE, IMAGE - 5, unit="counts")
    assert panels(figure) == ["input", "target", "prediction", "prediction − target"]
    limits = {panel(figure, title).images[0].get_clim() for title in panels(figure)[:3]}
    assert limits == {value_limits(IMAGE, IMAGE + 5)}
    low, high = panel(figure, "prediction − target").images[0].get_clim()
    assert -low == high == pytest.approx(5, rel=0.01)
    np.testing.assert_allclose(panel(figure, "prediction − target").images[0].get_array(), 5, rtol=1e-4)
    middle = panel(figure, "prediction − target").images[0].cmap(0.5)
    assert min(middle[:3]) > 0.95, "no difference is white"


def test_pixels_that_were_not_measured_are_grey_and_out_of_the_difference() -> None:
    valid = np.ones(IMAGE.shape, bool)
    valid[3] = False
    target = IMAGE.copy()
    target[3] = 1e9
    figure = plot_regression(IMAGE, target, valid=valid)
    np.testing.assert_allclose(colors_at(figure, "target")[3], [to_rgba(NO_VALUE)] * 20)
    assert panel(figure, "prediction − target").images[0].get_array().mask[3].all()
    assert panel(figure, "target").images[0].get_clim()[1] < 1100
    assert not np.ma.getmaskarray(panel(figure, "prediction").images[0].get_array()).any()


def test_logarithmic_colors_leave_out_what_is_not_positive() -> None:
    target = np.geomspace(1, 1e4, 240).reshape(12, 20)
    target[0, 0] = -1
    figure = plot_regression(10 * target, target, log=True, unit="counts")
    picture = panel(figure, "target").images[0]
    assert isinstance(picture.norm, LogNorm)
    assert np.ma.getmaskarray(picture.get_array()).sum() == 1
    ratio = panel(figure, "prediction / target").images[0].get_array()
    np.testing.assert_allclose(ratio.compressed(), 1)
    assert ratio.count() == 239
    with pytest.raises(ArrayError, match="no positive value"):
        plot_regression(-np.abs(target), log=True)


def test_color_bars_point_where_values_lie_beyond_their_end() -> None:
    figure = plot_regression(IMAGE, limits=(1000, 2000))
    bars = [axes for axes in figure.axes if not axes.get_title()]
    assert bars[0]._colorbar.extend == "min"


def test_members_mean_and_quantiles_share_one_scale() -> None:
    members = np.random.default_rng(0).normal(size=(6, 12, 20)) + 10 * np.arange(6)[:, None, None]
    quantiles = {0.95: np.quantile(members, 0.95, axis=0), 0.05: np.quantile(members, 0.05, axis=0)}
    figure = plot_ensemble(members.mean(axis=0), members.std(axis=0, ddof=1), members, quantiles, unit="counts")
    assert panels(figure)[:4] == ["mean", "standard deviation", "quantile 0.05", "quantile 0.95"]
    assert panels(figure)[4:] == [f"member {number}" for number in range(6)]
    limits = {title: panel(figure, title).images[0].get_clim() for title in panels(figure)}
    spread = limits.pop("standard deviation")
    assert set(limits.values()) == {value_limits(members, members.mean(axis=0), *quantiles.values())}
    assert spread[0] == 0
    assert spread[1] < 30
    np.testing.assert_allclose(panel(figure, "member 5").images[0].get_array(), members[5])


def records(count: int, **extra: object) -> list[EpochRecord]:
    return [EpochRecord(k, 0.1 ** (1 + k // 3), 1 / (k + 1), 1 / (k + 0.5), seconds=1.0, **extra) for k in range(count)]


def test_training_curves_show_the_records_and_mark_the_best_epoch() -> None:
    history = records(6, metrics={"f1": 0.5, "pearson r": 0.9})
    figure = plot_training(history, best_epoch=4, loss_unit="mean square error")
    loss, rate, metrics = figure.axes
    lines = {line.get_label(): line for line in loss.lines}
    np.testing.assert_allclose(lines["training"].get_ydata(), [r.training_loss for r in history])
    np.testing.assert_allclose(lines["validation"].get_ydata(), [r.validation_loss for r in history])
    best = lines["best: epoch 4, 0.222"]
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (4, history[4].validation_loss)
    assert (loss.get_xlabel(), loss.get_ylabel(), loss.get_yscale()) == ("epoch", "mean square error", "log")
    np.testing.assert_allclose(rate.lines[0].get_ydata(), [r.learning_rate for r in history])
    assert [text.get_text() for text in metrics.get_legend().get_texts()] == ["f1", "pearson r"]
    assert drawn(figure)


def test_a_training_without_validation_and_a_loss_of_zero_can_be_drawn() -> None:
    figure = plot_training([EpochRecord(0, 0.0, 0.0, None, 1.0)])
    assert [line.get_label() for line in figure.axes[0].lines] == ["training"]
    assert [axes.get_yscale() for axes in figure.axes] == ["linear", "linear"]
    assert figure.axes[1].lines[0].get_marker() == "o", "a line through one point cannot be seen"
    assert drawn(figure)


def test_the_result_of_a_training_can_be_drawn() -> None:
    config = {"network": "TUNet", "in_channels": 1, "out_channels": 1, "depth": 1, "base_channels": 2}
    values = np.random.default_rng(0).normal(size=(4, 1, 8, 8)).astype(np.float32)
    result = fit(build_network(config, seed=0), ArrayExamples(values), weighted_l2, TrainSettings(3, 2))
    labels = [line.get_label() for line in plot_training(result).axes[0].lines]
    assert f"best: epoch {result.best_epoch}, {result.best_loss:.3g}" in labels


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot_segmentation(IMAGE, LABEL.T), "wanted the same"),
        (lambda: plot_segmentation(IMAGE, LABEL.astype(float)), "whole numbers"),
        (lambda: plot_segmentation(IMAGE, LABEL + 2, class_names=["a", "b"]), "labels hold 2; wanted 0 to 1, or 255"),
        (lambda: plot_segmentation(IMAGE, probabilities=np.full((2, 12, 20), 3.0)), "not logits"),
        (lambda: plot_segmentation(IMAGE, probabilities=np.ones((2, 12, 20)), class_names=["a"]), "1 class names"),
        (lambda: plot_segmentation(np.full((3, 3), np.nan)), "no finite value"),
        (lambda: plot_regression(IMAGE, IMAGE[:5]), "wanted the same"),
        (lambda: plot_ensemble(IMAGE, -IMAGE), "cannot be negative"),
        (lambda: plot_ensemble(IMAGE, IMAGE, IMAGE[None, :5]), "wanted the same"),
        (lambda: plot_training([]), "wanted one of them"),
        (lambda: plot_training(records(3), best_epoch=3), "best is 3"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, message: str) -> None:
    with pytest.raises(ArrayError, match=message):
        call()


def test_wrong_limits_and_quantiles_are_refused() -> None:
    with pytest.raises(SettingError, match=r"limits are \(2, 1\)"):
        plot_regression(IMAGE, limits=(2, 1))
    with pytest.raises(SettingError, match="0 < low < high on a logarithmic scale"):
        plot_regression(IMAGE, limits=(0, 1), log=True)
    with pytest.raises(SettingError, match="wanted probabilities"):
        plot_ensemble(IMAGE, IMAGE, quantiles={95: IMAGE})


def test_figures_are_made_without_pyplot_and_its_settings() -> None:
    before = dict(mpl.rcParams)
    drawn(plot_segmentation(IMAGE, LABEL))
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []
