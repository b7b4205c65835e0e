"""Mixed-scale dense network: the blockwise computation on one buffer is the plain, concatenating network."""

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.networks import MSDNet, build_network, count_parameters
from dlsia_core.networks.inference import run_in_batches
from dlsia_core.networks.mixed_scale import dense, products
from dlsia_core.networks.registry import initialize

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {"network": "MSDNet", "in_channels": 2, "out_channels": 3, "num_layers": 20, "max_dilation": 7}


def plain(network: MSDNet, x: Tensor) -> Tensor:
    """The textbook form, with torch's own convolutions: memory and time grow with the square of the layers."""
    for layer in network.layers:
        x = torch.cat((x, layer(x)), dim=1)
    return network.head(x)


def random_like(shape: Sequence[int], seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def output_and_gradients(network: MSDNet, function: Any, x: Tensor) -> dict[str, Tensor]:
    """The output, and the gradients of a random sum of it with respect to the input and all parameters."""
    network.zero_grad()
    x = x.detach().requires_grad_()
    output = function(x)
    (output * random_like(output.shape, 9)).sum().backward()
    found = {name: p.grad.clone() for name, p in network.named_parameters()}
    return found | {"output": output.detach(), "input": x.grad}


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor], relative: float) -> None:
    """Each tensor to `relative` of its largest value; where sums nearly cancel, of 1/100 of the largest."""
    assert found.keys() == wanted.keys()
    largest = max(float(value.abs().max()) for name, value in wanted.items() if name != "output")
    for name, value in wanted.items():
        error, scale = (found[name] - value).abs().max(), value.abs().max()
        assert error <= relative * max(float(scale), 1e-2 * largest), f"{name}: {error:.2g} of {scale:.2g}"


@pytest.mark.parametrize(
    ("num_layers", "max_dilation", "counted", "printed"),
    [(50, 12, 11_577, 0.012), (100, 12, 45_652, 0.045), (100, 20, 45_652, 0.045), (200, 15, 181_302, 0.181),
     (200, 20, 181_302, 0.181)],
)  # fmt: skip
def test_parameter_counts_of_the_paper(num_layers: int, max_dilation: int, counted: int, printed: float) -> None:
    """Chavez et al. 2022, Table 3 (millions; 0.045652 is cut, not rounded)."""
    with torch.device("meta"):
        network = MSDNet(1, 1, num_layers, max_dilation)
    assert count_parameters(network) == counted
    assert abs(counted / 1e6 - printed) < 1e-3


def test_normalization_adds_two_numbers_per_new_channel_only() -> None:
    """dlsia normalizes the whole concatenation: 40,600 more for 200 layers."""
    with torch.device("meta"):
        assert count_parameters(MSDNet(1, 1, 200, 15, normalization="batch")) == 181_302 + 2 * 200


def test_dilations_follow_the_layers() -> None:
    """Roberts et al. 2024 write i mod l_m, which would begin with a dilation of 0."""
    assert [layer[0].dilation[0] for layer in MSDNet(1, 1, 7, 3).layers] == [1, 2, 3, 1, 2, 3, 1]
    cycled = MSDNet(1, 1, 3, dilations=[1, 8], ndim=3)
    assert [layer[0].dilation for layer in cycled.layers] == [(1, 1, 1), (8, 8, 8), (1, 1, 1)]


def test_one_layer_by_hand() -> None:
    """Dilation 2, kernel with 1, 10, 100 along x: 5 pixels 1 2 3 4 5, bias -30, ReLU; the head doubles, and adds x."""
    network = MSDNet(1, 1, 1, dilations=[2])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.layers[0][0].weight[0, 0, 1] = torch.tensor([1.0, 10.0, 100.0])
        network.layers[0][0].bias.fill_(-30)
        network.head.weight[0, :, 0, 0] = torch.tensor([1.0, 2.0])
    sums = [0 + 10 + 300 - 30, 0 + 20 + 400 - 30, 1 + 30 + 500 - 30, 2 + 40 + 0 - 30, 3 + 50 + 0 - 30]
    row = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    expected = row + 2 * torch.tensor(sums, dtype=torch.float32)
    assert network(row.view(1, 1, 1, 5)).flatten().tolist() == expected.tolist()


def test_the_last_layer_sees_the_input_as_it_is() -> None:
    """dlsia's ReLU acts on all channels after each layer: negative input never arrives at the second layer."""
    network = MSDNet(1, 1, 30, 5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.layers[29][0].weight[0, 0, 1, 1] = -1
        network.head.weight[0, 30] = 1
    assert network(torch.full((1, 1, 4, 4), -3.0)).unique().tolist() == [3.0]


CASES: list[dict[str, Any]] = [
    {},
    {"layer_width": 3},
    {"layer_width": 30, "num_layers": 3},
    {"ndim": 3},
    {"ndim": 3, "layer_width": 2, "padding_mode": "replicate"},
    {"padding_mode": "replicate", "max_dilation": 30},
    {"kernel_size": 5, "activation": "leaky_relu"},
    {"kernel_size": 1},
    {"max_dilation": None, "dilations": [1, 2, 4, 8, 16, 32], "activation": "elu"},
    {"activation": "silu"},
    {"activation": "gelu", "normalization": "group", "layer_width": 4},
    {"normalization": "batch"},
    {"normalization": "batch", "ndim": 3, "layer_width": 2, "activation": "elu"},
    {"normalization": "instance", "layer_width": 2},
]


@pytest.mark.parametrize("changes", CASES, ids=str)
def test_it_is_the_plain_network(changes: dict[str, Any]) -> None:
    """In float32 to 1e-5, in float64 far below, in training and evaluation; the same running statistics."""
    network = build_network(SMALL | changes, seed=1)
    x = random_like((2, 2, *((6, 5, 9) if network.ndim == 3 else (33, 18))), 2)
    other = copy.deepcopy(network).double()
    wanted = output_and_gradients(other, lambda x: plain(other, x), x.double())
    if network.config["normalization"] is None:  # normalizing layers of little contrast amplifies rounding
        assert_same(output_and_gradients(network, network, x), wanted, 1e-5)
    network.double()
    assert_same(output_and_gradients(network, network, x.double()), wanted, 1e-11)
    for name, buffer in other.named_buffers():
        torch.testing.assert_close(network.get_buffer(name), buffer)
    other.eval(), network.eval()
    wanted = output_and_gradients(other, lambda x: plain(other, x), x.double())
    assert_same(output_and_gradients(network, network, x.double()), wanted, 1e-11)
    with torch.inference_mode():
        torch.testing.assert_close(network(x.double()), wanted["output"])


def test_a_deep_network_is_the_plain_one_in_single_precision() -> None:
    deep = {"network": "MSDNet", "in_channels": 1, "out_channels": 1, "num_layers": 120, "max_dilation": 15}
    network = build_network(deep, seed=3)
    x = random_like((1, 1, 40, 31), 4)
    found = output_and_gradients(network, network, x)
    network.double()
    assert_same(found, output_and_gradients(network, lambda x: plain(network, x), x.double()), 1e-5)


@settings(max_examples=40)
@given(st.data())
def test_any_structure_and_size(data: st.DataObject) -> None:
    """Also when strips are short, dilations are larger than the image, and blocks end within the network."""
    ndim = data.draw(st.sampled_from([2, 3]))
    size = data.draw(st.lists(st.integers(1, 7 if ndim == 3 else 12), min_size=ndim, max_size=ndim))
    network = MSDNet(
        data.draw(st.integers(1, 3)),
        data.draw(st.integers(1, 2)),
        num_layers=data.draw(st.integers(1, 9)),
        dilations=data.draw(st.lists(st.integers(1, 14), min_size=1, max_size=4)),
        layer_width=data.draw(st.integers(1, 3)),
        kernel_size=data.draw(st.sampled_from([1, 3, 5])),
        padding_mode=data.draw(st.sampled_from(["zeros", "replicate"])),
        ndim=ndim,
        activation="elu",
    )
    initialize(network, torch.Generator().manual_seed(data.draw(st.integers(0, 9))))
    network.double()
    x = random_like((data.draw(st.integers(1, 3)), network.plan.in_channels, *size), 5, torch.float64)
    wanted = output_and_gradients(network, lambda x: plain(network, x), x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense, "BLOCK_CHANNELS", data.draw(st.integers(1, 8)))
        patch.setitem(products.ROOM, "cpu", data.draw(st.integers(1, 3000)))
        assert_same(output_and_gradients(network, network, x), wanted, 1e-11)


@pytest.mark.parametrize("changes", [{}, {"normalization": "batch"}, {"ndim": 3, "activation": "silu"}], ids=str)
def test_gradients_are_those_of_finite_differences(changes: dict[str, Any]) -> None:
    activation = {"activation": "elu"} if "activation" not in changes else {}  # ReLU's kinks have no derivative
    network = MSDNet(1, 2, **({"num_layers": 5, "max_dilation": 2} | activation | changes)).double()
    initialize(network, torch.Generator().manual_seed(0))
    x = random_like((2, 1, *((2, 3, 2) if network.ndim == 3 else (4, 3))), 6, torch.float64).requires_grad_()
    names, parameters = zip(*network.named_parameters(), strict=True)

    def function(x: Tensor, *values: Tensor) -> Tensor:
        network.train()
        return torch.func.functional_call(network, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(function, (x, *(p.detach().requires_grad_() for p in parameters)))


def test_second_derivatives_are_refused() -> None:
    network = build_network(SMALL, seed=0)
    x = random_like((1, 2, 5, 5)).requires_grad_()
    (gradient,) = torch.autograd.grad(network(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_frozen_parts_get_no_gradient_and_the_others_the_same() -> None:
    network = build_network(SMALL, seed=0)
    x = random_like((2, 2, 9, 11), 1)
    whole = output_and_gradients(network, network, x)
    for trained in ("head", "layers"):
        network.zero_grad()
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.startswith(trained))
        output = network(x)
        (output * random_like(output.shape, 9)).sum().backward()
        for name, parameter in network.named_parameters():
            assert (parameter.grad is None) != name.startswith(trained)
            assert parameter.grad is None or torch.equal(parameter.grad, whole[name])
    network.requires_grad_(False)
    assert not network(x).requires_grad
    assert torch.equal(output_and_input_gradient(network, x), whole["input"])


def output_and_input_gradient(network: nn.Module, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    output = network(x)
    (output * random_like(output.shape, 9)).sum().backward()
    return x.grad


@pytest.mark.parametrize("normalization", [None, "batch"])
def test_autocast_is_as_exact_as_for_the_plain_network(normalization: str | None) -> None:
    network = build_network(SMALL | {"normalization": normalization}, seed=1)
    x = random_like((2, 2, 30, 21), 2)
    exact = output_and_gradients(network, network, x)
    with torch.autocast("cpu", torch.bfloat16):
        found, other = (output_and_gradients(network, f, x) for f in (network, lambda x: plain(network, x)))
    assert found["output"].dtype == torch.bfloat16
    for name in ("output", "input", "layers.3.0.weight", "head.weight"):
        error, others = ((each[name] - exact[name]).norm() / exact[name].norm() for each in (found, other))
        assert error < max(1.5 * others, 0.01), name


def test_autocast_leaves_double_precision_alone() -> None:
    """As torch's convolutions do."""
    network = build_network(SMALL, seed=1).double()
    x = random_like((1, 2, 9, 7)).double()
    with torch.autocast("cpu", torch.bfloat16):
        assert network(x).dtype == plain(network, x).dtype == torch.float64


def test_sixteen_bit_weights_give_sixteen_bit_answers() -> None:
    network = build_network(SMALL | {"normalization": "group"}, seed=1)
    x = random_like((1, 2, 12, 13), 2)
    exact = network(x)
    found = network.to(torch.bfloat16)(x.bfloat16())
    found.sum().backward()
    assert found.dtype == network.head.weight.grad.dtype == torch.bfloat16
    assert (found - exact).norm() < 0.1 * exact.norm()


def test_compiled_it_gives_the_same() -> None:
    network = build_network(SMALL, seed=1)
    x = random_like((1, 2, 12, 13), 2)
    wanted = output_and_gradients(network, network, x)
    found = output_and_gradients(network, torch.compile(network, backend="aot_eager"), x)
    assert_same(found, wanted, 1e-6)


@pytest.mark.parametrize("normalization", [None, "batch"])
def test_bits_of_an_answer_do_not_depend_on_its_batch_or_run(normalization: str | None) -> None:
    network = build_network(SMALL | {"normalization": normalization}, seed=1)
    x = random_like((5, 2, 23, 14), 2)
    network(x)  # moves running statistics
    network.eval()
    together = network(x)
    assert torch.equal(together, torch.cat([network(frame[None]) for frame in x]))
    assert torch.equal(together, next(run_in_batches(network, network, [x], "cpu")))
    assert torch.equal(together[1:3], network(x[1:3]))
    first, again = (output_and_gradients(network, network, x) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_input_stays_and_backward_can_be_repeated() -> None:
    network = build_network(SMALL, seed=1)
    x = random_like((1, 2, 9, 9), 3)
    before = x.clone()
    output = network(x)
    output.sum().backward(retain_graph=True)
    first = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    output.sum().backward()
    assert torch.equal(x, before)
    assert all(torch.equal(a, p.grad) for a, p in zip(first, network.parameters(), strict=True))


def kept_planes(network: MSDNet, function: Any) -> float:
    """Planes of 32 x 32 that autograd keeps for the backward pass, parameters not counted."""
    own, kept = {p.untyped_storage().data_ptr() for p in network.parameters()}, {}

    def remember(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), storage)  # held, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        function(torch.zeros(1, 1, 32, 32))
    return sum(size for size, _ in kept.values()) / (32 * 32 * 4)


def test_memory_grows_with_the_layers_not_with_their_square() -> None:
    """dlsia keeps 323 MiB for one 128 x 128 image at 100 layers, where the planes are 6.3 MiB."""
    for num_layers in (20, 80):
        network = MSDNet(1, 1, num_layers, 5)
        assert kept_planes(network, network) == 1 + num_layers
        assert kept_planes(network, lambda x: plain(network, x)) > num_layers**2 / 2  # noqa: B023
    network = MSDNet(1, 1, 80, 5, normalization="batch")
    assert kept_planes(network, network) <= 2 * 81 + 1


@pytest.mark.parametrize("positive", [False, True])
def test_signals_neither_vanish_nor_explode_in_200_layers(positive: bool) -> None:
    network = build_network({"network": "MSDNet", "in_channels": 1, "out_channels": 1, "num_layers": 200,
                             "max_dilation": 15}, seed=0)  # fmt: skip
    x = random_like((1, 1, 64, 48), 1)
    x = x.abs() if positive else x
    rule = network.rule()
    weights, biases = [layer[0].weight for layer in network.layers], [layer[0].bias for layer in network.layers]
    with torch.no_grad():
        features = dense.sweep_forward(network.plan, rule, x, weights, biases, keep=False).features[0]
    size = features.square().mean(1).sqrt()
    assert 0.1 < size[-20:].mean() < 2
    assert (features > 0).any(1).float().mean() > 0.95
    network(x).square().mean().backward()
    gradients = torch.stack([layer[0].weight.grad.norm() for layer in network.layers])
    assert 1e-2 < gradients[:20].mean() / gradients[-20:].mean() < 1e2


def test_it_learns_one_tile_by_heart() -> None:
    network = build_network({"network": "MSDNet", "in_channels": 1, "out_channels": 1, "num_layers": 25,
                             "max_dilation": 6}, seed=0)  # fmt: skip
    row = torch.arange(24.0)
    target = torch.exp(-(((row[:, None] - 12).hypot(row - 9) - 6) ** 2) / 4)[None, None]
    x = target.clone()
    x[..., 8:13] = 0  # a gap
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        loss = (network(x) - target).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.02 * (x - target).square().mean()


def test_layout_of_the_weights() -> None:
    network = MSDNet(2, 3, num_layers=2, max_dilation=4, layer_width=5, normalization="batch")
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items() if "running" not in name}
    assert shapes == {
        "layers.0.0.weight": (5, 2, 3, 3),
        "layers.0.0.bias": (5,),
        "layers.0.1.weight": (5,),
        "layers.0.1.bias": (5,),
        "layers.0.1.num_batches_tracked": (),
        "layers.1.0.weight": (5, 7, 3, 3),
        "layers.1.0.bias": (5,),
        "layers.1.1.weight": (5,),
        "layers.1.1.bias": (5,),
        "layers.1.1.num_batches_tracked": (),
        "head.weight": (3, 12, 1, 1),
        "head.bias": (3,),
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_dilation": None}, r"one of the two, the other None"),
        ({"dilations": [1, 2]}, r"one of the two, the other None"),
        ({"max_dilation": 0}, r"max_dilation is 0"),
        ({"max_dilation": None, "dilations": []}, r"dilations is \[\]"),
        ({"max_dilation": None, "dilations": [1, 0]}, r"dilations is 0; it must be a whole number of at least 1"),
        ({"max_dilation": None, "dilations": "12"}, r"dilations is '12'"),
        ({"num_layers": 0}, r"num_layers is 0"),
        ({"layer_width": 1.5}, r"layer_width is 1.5"),
        ({"kernel_size": 4}, r"kernel_size is 4; it must be odd"),
        ({"padding_mode": "reflect"}, r"padding_mode is 'reflect'"),
        ({"normalization": "layer"}, r"normalization is 'layer'"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        build_network(SMALL | changes, seed=0)


def test_inputs_of_another_shape_are_refused() -> None:
    network = build_network(SMALL, seed=0)
    for shape in ((1, 3, 5, 5), (2, 5, 5), (1, 2, 5, 5, 5)):
        with pytest.raises(ArrayError, match=r"wanted \(N, 2\) and 2 more axes"):
            network(torch.zeros(shape))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
@pytest.mark.parametrize("changes", CASES, ids=str)
def test_on_a_gpu_it_is_the_same_network(changes: dict[str, Any]) -> None:
    network = build_network(SMALL | changes, seed=1).double()
    x = random_like((3, 2, *((6, 5, 9) if network.ndim == 3 else (33, 18))), 2, torch.float64)
    wanted = output_and_gradients(copy.deepcopy(network), network, x)
    network.cuda()
    found = output_and_gradients(network, lambda x: network(x.cuda()).cpu(), x)
    assert_same({name: value.cpu() for name, value in found.items()}, wanted, 1e-11)
