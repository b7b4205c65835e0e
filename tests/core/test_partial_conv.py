"""Partial convolutions: measured pixels only, and a gap that shrinks as it should."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from dlsia_core.errors import ArrayError
from dlsia_core.networks import PartialConvUNet, build_network
from dlsia_core.networks.partial_conv import PartialConvolution

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = {"network": "PartialConvUNet", "in_channels": 2, "out_channels": 2, "depth": 2, "base_channels": 3}


def random_case(size: tuple[int, ...], valid_channels: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 2, *size, generator=generator)
    return x, torch.rand(2, valid_channels, *size, generator=generator) > 0.4


def by_hand(x: np.ndarray, valid: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int) -> np.ndarray:
    """Equation 1 of Liu et al. 2018, pixel by pixel; all arrays without N; windows end at the image's edge."""
    (_, rows, columns), reach = x.shape, weight.shape[-1] // 2
    out = np.zeros((len(weight), -(-rows // stride), -(-columns // stride)))
    for row in range(out.shape[1]):
        for column in range(out.shape[2]):
            inside = total = 0.0
            values = np.zeros(len(weight))
            for dy in range(-reach, reach + 1):
                for dx in range(-reach, reach + 1):
                    y, x_ = row * stride + dy, column * stride + dx
                    if 0 <= y < rows and 0 <= x_ < columns:
                        total += len(x)
                        inside += valid[:, y, x_].sum()
                        seen = x[:, y, x_] * valid[:, y, x_]
                        values += weight[:, :, dy + reach, dx + reach] @ seen
            if inside:
                out[:, row, column] = values * total / inside + bias
    return out


@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_the_layer_is_the_equation_of_the_paper(size: tuple[int, int], kernel: int, stride: int, seed: int) -> None:
    x, valid = random_case(size, 2, seed)
    layer = PartialConvolution(2, 2, 3, kernel, stride).double()
    torch.nn.init.normal_(layer.bias, generator=torch.Generator().manual_seed(seed))
    out, reached = layer(torch.where(valid, x, 0).double(), valid.sum(1, keepdim=True).double())
    weight, bias = layer.convolution.weight.detach().numpy(), layer.bias.detach().numpy()
    for n in range(2):
        expected = by_hand(x[n].double().numpy(), valid[n].numpy(), weight, bias, stride)
        np.testing.assert_allclose(out[n].detach().numpy(), expected, atol=1e-12)
        assert (expected[:, ~reached[n, 0].numpy()] == 0).all()


@pytest.mark.parametrize("ndim", [2, 3])
def test_with_everything_measured_it_is_the_ordinary_convolution(ndim: int) -> None:
    x = torch.randn(2, 3, *[6, 7, 5][:ndim], generator=torch.Generator().manual_seed(0))
    layer = PartialConvolution(ndim, 3, 4, 3, 2)
    torch.nn.init.normal_(layer.bias, generator=torch.Generator().manual_seed(0))
    ordinary = F.conv2d if ndim == 2 else F.conv3d
    out, reached = layer(x, torch.full_like(x[:, :1], 3))
    torch.testing.assert_close(out, ordinary(x, layer.convolution.weight, layer.bias, stride=2, padding=1))
    assert reached.all()


def test_an_empty_window_gives_exactly_zero_and_no_gradient_that_is_no_number() -> None:
    layer = PartialConvolution(2, 1, 2, 3)
    torch.nn.init.ones_(layer.bias)
    x = torch.zeros(1, 1, 1, 7, requires_grad=True)
    count = torch.tensor([[[[1.0, 0, 0, 0, 0, 0, 1]]]])
    out, reached = layer(x, count)
    assert reached[0, 0, 0].tolist() == [True, True, False, False, False, True, True]
    assert (out[:, :, :, 2:5] == 0).all()
    assert (out[:, :, :, [0, 1, 5, 6]] == 1).all()
    out.sum().backward()
    assert x.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())


def test_validity_grows_as_computed_by_hand() -> None:
    """One measured pixel at the left of 16: kernel 7 and stride 2 reach it from the outputs at 0 and 2 (0 and 1 of
    8), kernel 5 and stride 2 those two from 0 and 2 (0 and 1 of 4). Doubled, 0 to 3 of 8; joined with 0 and 1 and
    widened by kernel 3: 0 to 4 of 8. Doubled again, 0 to 9 of 16; the head's kernel 3: 0 to 10."""
    network = build_network(CONFIG | {"in_channels": 1}, seed=0)
    valid = torch.zeros(1, 1, 16, 16)
    valid[..., 0] = 1
    reached = network.reached(torch.zeros_like(valid), valid)
    assert reached.dtype == torch.bool
    assert (reached[0, 0] == (torch.arange(16) <= 10)).all()
    sizes = []
    for layer in [*network.encoder, *network.decoder]:
        layer.register_forward_hook(lambda _, __, out: sizes.append(int(out[1][0, 0, 0].sum())))
    output = network(torch.ones_like(valid), valid)
    assert sizes == [2, 2, 5]
    assert (output[..., 11:] == 0).all()
    assert (output[..., :11] != 0).any()


@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    channels=st.integers(1, 2),
    seed=st.integers(0, 99),
    normalization=st.sampled_from([None, "batch", "instance", "group"]),
)
def test_values_that_were_not_measured_have_no_influence(
    size: tuple[int, int], channels: int, seed: int, normalization: str | None
) -> None:
    """To the bit, whatever they are, in training and evaluation, and in the gradient."""
    x, valid = random_case(size, channels, seed)
    other = torch.where(valid.expand_as(x), x, torch.tensor([float("nan"), float("inf"), -1e30])[seed % 3])
    network = build_network(CONFIG | {"normalization": normalization, "depth": 1}, seed=0)
    if normalization == "instance" and max(size) <= 2:
        return  # torch's instance normalization refuses maps of one pixel
    first, second = network(x, valid), network(other.requires_grad_(), valid)
    assert torch.equal(first, second)
    assert first.isfinite().all()
    second.sum().backward()
    assert not other.grad[~valid.expand_as(x)].any()
    assert other.grad.isfinite().all()


def test_a_frame_without_any_measured_pixel_gives_zeros() -> None:
    network = build_network(CONFIG | {"normalization": "batch"}, seed=0).eval()
    x, valid = torch.full((1, 2, 9, 9), float("nan")), torch.zeros(1, 1, 9, 9)
    assert not network(x, valid).any()
    assert not network.reached(x, valid).any()


def test_one_tensor_with_a_last_channel_of_validity_says_the_same() -> None:
    network = build_network(CONFIG, seed=0)
    x, valid = random_case((9, 13), 1, seed=3)
    joined = torch.cat((x, valid.float()), dim=1)
    assert torch.equal(network(joined), network(x, valid))
    assert torch.equal(network.reached(joined), network.reached(x, valid))
    assert torch.equal(network(x, valid.float()), network(x, valid))
    assert torch.equal(network(x, valid.expand_as(x)), network(x, valid))


def test_a_gap_as_wide_as_the_detectors_closes() -> None:
    network = build_network({"network": "PartialConvUNet", "in_channels": 1, "out_channels": 1}, seed=0)
    valid = torch.ones(1, 1, 64, 96)
    valid[:, :, 20:37] = 0
    assert network.reached(torch.zeros_like(valid), valid).all()


@pytest.mark.parametrize(
    ("shape", "valid_shape", "message"),
    [
        ((1, 2, 8, 8), None, r"shape \(1, 2, 8, 8\); wanted \(N, 2 channels and one of validity\) and 2 more axes"),
        ((1, 3, 8, 8), (1, 1, 8, 8), r"shape \(1, 3, 8, 8\); wanted \(N, 2 channels\)"),
        ((1, 2, 8), (1, 1, 8), r"2 more axes"),
        ((1, 2, 8, 8), (1, 1, 8, 9), r"valid has shape \(1, 1, 8, 9\); wanted \(1, 2, 8, 8\), or 1 channel"),
        ((1, 2, 8, 8), (8, 8), r"valid has shape \(8, 8\)"),
    ],
)
def test_wrong_shapes_are_refused(shape: tuple[int, ...], valid_shape: tuple[int, ...] | None, message: str) -> None:
    network = PartialConvUNet(2, 1, depth=2, base_channels=2)
    with pytest.raises(ArrayError, match=message):
        network(torch.zeros(shape), None if valid_shape is None else torch.ones(valid_shape))
