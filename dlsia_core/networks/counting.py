"""What a network consists of: parameters and convolution filters, in all and layer by layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

Convolution = nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d


@dataclass(frozen=True)
class LayerCount:
    """One module that has parameters of its own, which may be shared with another.

    name: its place in the network, "encoder.0.0.0"; kind: its class.
    filters: kernels, one per output channel; 0 where the module is no convolution.
    shapes: of its parameters, by name.
    """

    name: str
    kind: str
    parameters: int
    filters: int
    shapes: dict[str, tuple[int, ...]]


def count_parameters(network: nn.Module, *, trainable_only: bool = False) -> int:
    """Numbers that a training may change; shared ones count once. trainable_only: without frozen ones.

    >>> count_parameters(nn.Conv2d(1, 4, 3))  # 4 kernels of 9 weights, 4 biases
    40
    """
    return sum(p.numel() for p in network.parameters() if p.requires_grad or not trainable_only)


def count_filters(network: nn.Module) -> int:
    """Kernels of all convolutions, one per output channel.

    >>> count_filters(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 2, 2)))
    6
    """
    return sum(row.filters for row in layer_counts(network))


def layer_counts(network: nn.Module) -> list[LayerCount]:
    """All modules with parameters of their own, in the order in which they were made.

    >>> layer_counts(nn.Sequential(nn.ReLU(), nn.Conv2d(1, 4, 3)))
    [LayerCount(name='1', kind='Conv2d', parameters=40, filters=4, shapes={'weight': (4, 1, 3, 3), 'bias': (4,)})]
    """
    rows = []
    for name, module in network.named_modules():
        own = dict(module.named_parameters(recurse=False))
        if own:
            filters = _filters(module, own)
            shapes = {key: tuple(parameter.shape) for key, parameter in own.items()}
            numbers = sum(parameter.numel() for parameter in own.values())
            rows.append(LayerCount(name, type(module).__name__, numbers, filters, shapes))
    return rows


def _filters(module: nn.Module, own: Mapping[str, nn.Parameter]) -> int:
    if isinstance(module, Convolution):
        return module.out_channels
    # Convolutions of our own keep (output channel, input channel, *kernel), as torch's do but for transposed ones.
    return len(own["weight"]) if "weight" in own and own["weight"].ndim >= 4 else 0


def layer_table(rows: Sequence[LayerCount]) -> str:
    """Rows as text, sums below.

    >>> print(layer_table(layer_counts(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(4, 2)))))
    layer  kind    parameters  filters
    0      Conv2d          40        4
    1      Linear          10        0
    sum                    50        4
    """
    texts = [("layer", "kind", "parameters", "filters")]
    texts += [(row.name, row.kind, str(row.parameters), str(row.filters)) for row in rows]
    texts += [("sum", "", str(sum(row.parameters for row in rows)), str(sum(row.filters for row in rows)))]
    name, kind, parameters, filters = (max(map(len, column)) for column in zip(*texts, strict=True))
    return "\n".join(f"{a:<{name}}  {b:<{kind}}  {c:>{parameters}}  {d:>{filters}}" for a, b, c, d in texts)
