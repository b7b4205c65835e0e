"""Ensembles: statistics computed by hand, bounded memory, a module like any other."""

import json
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.networks import Ensemble, EnsembleStatistics, build_network, load_network, network_config, save_network

pytestmark = pytest.mark.usefixtures("one_thread")

SMSNET = {"network": "SMSNet", "in_channels": 1, "out_channels": 2, "depth": 4, "hidden_channels": 3}
TUNET = {"network": "TUNet", "in_channels": 1, "out_channels": 2, "depth": 2, "base_channels": 4}
MIXED = {"network": "Ensemble", "members": [SMSNET, SMSNET | {"graph_seed": 1}, TUNET | {"normalization": "batch"}]}


class Constant(nn.Module):
    """A network that answers the same everywhere, whatever it sees."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        return self.values.view(1, -1, 1, 1).expand(len(x), -1, *x.shape[2:])


def constants(*answers: float) -> Ensemble:
    return Ensemble([Constant(answer) for answer in answers])


def test_mean_and_standard_deviation_of_the_members_by_hand() -> None:
    """dlsia divides by √N once more, 2.24 times too little for five members; its regression returns None."""
    x = torch.zeros(2, 1, 3, 4)
    found = constants(1, 2, 3, 4, 5).statistics(x, None)
    assert found.mean.shape == found.std.shape == (2, 1, 3, 4)
    assert (found.mean == 3).all()
    torch.testing.assert_close(found.std, torch.full((2, 1, 3, 4), 2.5).sqrt())  # (4 + 1 + 0 + 1 + 4) / 4
    population = constants(1, 2, 3, 4, 5).statistics(x, None, ddof=0).std
    torch.testing.assert_close(population, torch.full((2, 1, 3, 4), 2.0).sqrt())
    assert found.quantiles is None
    torch.testing.assert_close(found.lower(2), 3 - 2 * found.std)


def test_probabilities_are_averaged_not_logits() -> None:
    """dlsia's default call on classification raises."""
    x = torch.zeros(1, 1, 2, 2)
    softmax = Ensemble([Constant(0.0, 0.0), Constant(np.log(9.0), 0.0)]).statistics(x, "softmax")
    torch.testing.assert_close(softmax.mean[0, :, 0, 0], torch.tensor([0.7, 0.3]))  # of 0.5 and 0.9, 0.5 and 0.1
    torch.testing.assert_close(softmax.std[0, :, 0, 0], torch.tensor([0.08, 0.08]).sqrt())
    sigmoid = constants(0.0, np.log(9.0)).statistics(x, "sigmoid")
    torch.testing.assert_close(sigmoid.mean[0, 0, 0, 0], torch.tensor(0.7))


def test_plain_call_is_the_mean_of_the_plain_outputs() -> None:
    assert (constants(1, 2, 6)(torch.zeros(1, 1, 2, 2)) == 3).all()


def test_standard_deviation_survives_a_large_offset() -> None:
    found = constants(1e4, 1e4 + 1, 1e4 + 2).statistics(torch.zeros(1, 1, 1, 1), None)
    assert found.std.item() == pytest.approx(1)
    assert constants(0.1, 0.1, 0.1).statistics(torch.zeros(1, 1, 1, 1), None).std.item() == 0


@given(
    answers=st.lists(st.floats(-9, 9, width=32), min_size=2, max_size=9),
    quantiles=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=3),
    per_pass=st.integers(1, 7),
)
def test_statistics_equal_numpys_in_any_number_of_passes(
    answers: list[float], quantiles: list[float], per_pass: int
) -> None:
    x = torch.zeros(1, 1, 2, 3)
    max_values = per_pass * len(answers)
    found = constants(*answers).statistics(x, None, quantiles=quantiles, max_values=max_values)
    assert found.quantiles is not None
    assert found.quantiles.shape == (len(quantiles), 1, 1, 2, 3)
    wanted = np.quantile(np.array(answers), quantiles)
    np.testing.assert_allclose(found.quantiles[:, 0, 0, 1, 2], wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.quantiles.amax((1, 2, 3, 4)), wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.mean.flatten()[0], np.mean(answers), atol=1e-5)
    np.testing.assert_allclose(found.std.flatten()[0], np.std(answers, ddof=1), atol=1e-4)


def test_quantiles_belong_to_their_pixels() -> None:
    ensemble = build_network(MIXED, seed=0).eval()
    x = torch.randn(3, 1, 9, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        members = torch.stack([member(x).softmax(1) for member in ensemble.members])
    found = ensemble.statistics(x, "softmax", quantiles=(0.25, 0.5), max_values=3 * 50)
    torch.testing.assert_close(found.quantiles, torch.quantile(members, torch.tensor([0.25, 0.5]), dim=0))
    torch.testing.assert_close(found.mean, members.mean(0))
    torch.testing.assert_close(found.std, members.std(0))


def test_members_answers_are_not_held_together() -> None:
    """dlsia holds all members' maps at once."""
    alive, most = [0], [0]

    class Counted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            answer = x + 1
            alive[0] += 1
            most[0] = max(most[0], alive[0])
            weakref.finalize(answer, lambda: alive.__setitem__(0, alive[0] - 1))
            return answer

    ensemble = Ensemble([Counted() for _ in range(8)])
    ensemble.statistics(torch.zeros(1, 1, 4, 4), None, quantiles=(0.5,), max_values=32)
    assert most[0] <= 2


def test_statistics_leave_weights_modes_and_running_statistics_alone() -> None:
    """dlsia's inference changes the statistics of batch normalization."""
    ensemble = build_network(MIXED, seed=0)
    before = {name: value.clone() for name, value in ensemble.state_dict().items()}
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    alone = ensemble.statistics(x[:1], "softmax").mean
    torch.testing.assert_close(ensemble.statistics(torch.cat([x[:1], 50 * x[1:]]), "softmax").mean[:1], alone)
    assert all(torch.equal(value, before[name]) for name, value in ensemble.state_dict().items())
    assert all(module.training for module in ensemble.modules())
    assert alone.requires_grad is False


def test_members_are_part_of_the_module() -> None:
    """dlsia keeps members in a plain list, which `.to()` and `.parameters()` miss."""
    ensemble = build_network(MIXED, seed=0)
    counts = [sum(p.numel() for p in member.parameters()) for member in ensemble.members]
    assert sum(p.numel() for p in ensemble.parameters()) == sum(counts)
    assert all(p.dtype == torch.float64 for p in ensemble.double().parameters())
    assert ensemble.eval().members[2].training is False


def test_an_ensemble_of_different_networks_comes_back_from_its_files(tmp_path) -> None:
    ensemble = build_network(MIXED, seed=0).eval()
    save_network(tmp_path, ensemble, {"classes": 2})
    loaded, metadata = load_network(tmp_path)
    assert metadata == {"classes": 2}
    assert [type(member).__name__ for member in loaded.members] == ["SMSNet", "SMSNet", "TUNet"]
    x = torch.randn(1, 1, 9, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded(x), ensemble(x))
    assert network_config(loaded) == json.loads(json.dumps(network_config(ensemble)))
    assert network_config(loaded)["members"][1]["graph"] == ensemble.members[1].graph.to_dict()


def test_members_get_weights_of_their_own_and_trained_networks_can_join(tmp_path) -> None:
    twins = build_network({"network": "Ensemble", "members": [TUNET, TUNET]}, seed=0)
    assert not torch.equal(twins.members[0].head.weight, twins.members[1].head.weight)
    joined = Ensemble([build_network(TUNET, seed=3), build_network(SMSNET, seed=4)])
    save_network(tmp_path, joined, {})
    assert torch.equal(load_network(tmp_path)[0].members[0].head.weight, joined.members[0].head.weight)


def test_lower_bound_is_the_papers_rule() -> None:
    statistics = EnsembleStatistics(torch.tensor([0.7, 0.7]), torch.tensor([0.1, 0.3]))
    assert (statistics.lower(1) > 0.5).tolist() == [True, False]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Ensemble([]), SettingError, "members is .*at least one network"),
        (lambda: constants(1, 2).statistics(torch.zeros(1, 1, 2, 2), "exp"), SettingError, "output_rule is 'exp'"),
        (lambda: constants(1).statistics(torch.zeros(1, 1, 2, 2), None), SettingError, "needs 2 members"),
        (lambda: constants(1, 2).statistics(torch.zeros(1, 1, 2, 2), None, ddof=2), SettingError, "ddof is 2"),
        (
            lambda: constants(1, 2).statistics(torch.zeros(1, 1, 2, 2), None, quantiles=(5,)),
            SettingError,
            "between 0 and 1",
        ),
        (
            lambda: constants(1, 2).statistics(torch.zeros(1, 1, 2, 2), None, quantiles=(0.5,), max_values=1),
            SettingError,
            "max_values is 1; it must be at least one per member, 2",
        ),
        (
            lambda: Ensemble([Constant(1.0), Constant(1.0, 2.0)])(torch.zeros(1, 1, 2, 2)),
            ArrayError,
            r"member 1 answers \(1, 2, 2, 2\), those before it \(1, 1, 2, 2\)",
        ),
        (
            lambda: build_network({"network": "Ensemble", "members": [TUNET | {"seed": 1}]}, seed=0),
            SettingError,
            "a member of an ensemble has a seed",
        ),
        (
            lambda: build_network({"network": "Ensemble", "members": [{"network": "UNet"}]}, seed=0),
            SettingError,
            "network is 'UNet'; known networks",
        ),
    ],
)
def test_misuse_is_refused(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
