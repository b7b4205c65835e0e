"""Tell touching fibres apart: follow the skeleton, and go straight on where branches meet."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from skimage.morphology import skeletonize

from dlsia_core.errors import SettingError

from .skeleton_graph import Branch, branches_of, merged_nodes

_ROUND = 1.35  # variance across a fibre over that of a circle of its area: room for rough and elliptic ones


@dataclass(frozen=True)
class SplitSettings:
    """How touching fibres are told apart.

    max_angle_deg   two branches go on in each other where neither turns by more degrees than this
    min_length      a part shorter than this many fibre radii is a bump of another one
    max_voxels      larger components are left whole, and reported; their voxels must fit into memory (24 bytes each)
    max_box         the same for the voxels of the bounding box (6 bytes each): a net of fibres fills little of its own
    """

    max_angle_deg: float = 35.0
    min_length: float = 3.0
    max_voxels: int = 20_000_000
    max_box: int = 200_000_000

    def __post_init__(self) -> None:
        if not 0 < self.max_angle_deg < 90:
            raise SettingError(f"max_angle_deg is {self.max_angle_deg}; give degrees between 0 and 90")
        if self.min_length <= 0 or self.max_voxels < 1 or self.max_box < 1:
            raise SettingError(
                f"min_length is {self.min_length}, max_voxels {self.max_voxels} and max_box {self.max_box}; "
                "all must be above 0"
            )


@dataclass(frozen=True, eq=False)
class FibreLines:
    """Center lines of fibres: `points` (point, 3) in voxels, `owner` (point,) which fibre each belongs to, from 0."""

    points: NDArray[np.float64]
    owner: NDArray[np.intp]

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.points)

    def nearest(self, coordinates: NDArray[np.int64]) -> NDArray[np.intp]:
        """The fibre (voxel,) whose line is nearest to each voxel (voxel, 3); of equally near ones the first."""
        # Half a millionth of a voxel decides between equals in favor of the first fibre, whatever the tree's order.
        distance, index = self._tree.query(coordinates, k=min(2, len(self.points)))
        if distance.ndim == 1:
            return np.asarray(self.owner[index])
        owner = self.owner[index]
        tie = distance[:, 1] - distance[:, 0] < 5e-7
        return np.asarray(np.where(tie, owner.min(axis=1), owner[:, 0]))


def split_fibres(
    coordinates: NDArray[np.int64], settings: SplitSettings | None = None, min_voxels: int = 1
) -> FibreLines | None:
    """Center lines of the fibres that a component (voxel, 3) consists of; None where it is one fibre.

    The component is thinned to its skeleton (Lee, Kashyap & Chu 1994). Where branches of it meet, those that go
    straight on belong to one fibre: neither direction, nor the step between their ends, may turn by more than
    `max_angle_deg`. Short dead ends are bumps; junctions joined by less than two diameters are one, as
    where two fibres touch side by side.

    What this cannot do: fibres that touch over a length so that no waist is left between them have one skeleton and
    stay one; two fibres that meet end to end within `max_angle_deg` become one; where two cross at an angle below
    about that, their ends may be exchanged.

    >>> cross = np.argwhere(np.add.outer(abs(np.arange(41) - 20) < 3, np.zeros(41))[None] + np.zeros((5, 1, 1)) > 0)
    >>> cross = np.unique(np.concatenate([cross, cross[:, [0, 2, 1]]]), axis=0)
    >>> lines = split_fibres(cross)
    >>> int(lines.owner.max()) + 1
    2
    """
    settings = settings or SplitSettings()
    if is_single(coordinates):
        return None
    corner = coordinates.min(axis=0) - 1
    inside = np.zeros(coordinates.max(axis=0) - corner + 2, bool)
    inside[tuple((coordinates - corner).T)] = True
    thin = np.argwhere(skeletonize(inside))  # type: ignore[no-untyped-call]
    branches, n_nodes = branches_of(thin)
    if n_nodes == 0:
        return None
    radius = max(1.0, float(np.sqrt(len(coordinates) / (np.pi * len(thin)))))
    branches = [branch for branch in branches if not (branch.is_free and branch.length < 1.5 * radius + 1)]
    branches, n_nodes = merged_nodes(branches, n_nodes, 4 * radius + 2)
    chains = _chains(branches, n_nodes, radius, np.cos(np.deg2rad(settings.max_angle_deg)))
    chains = [chain for chain in chains if _length(chain) >= settings.min_length * radius]
    return _owned([chain + corner for chain in chains], coordinates, max(1, min_voxels))


def is_single(coordinates: NDArray[np.int64]) -> bool:
    """Whether a component (voxel, 3) is a round rod along a parabola: a quick test that spares most their skeleton.

    Across a rod of cross-section A the variance is A / (4 pi) in every direction. Two fibres side by side have 2.5
    times that across both, and two that meet at an angle leave the parabola.

    >>> rod = np.argwhere(np.add.outer(np.arange(-9, 10) ** 2, np.arange(-9, 10) ** 2) < 16)
    >>> rod = np.array([[z, y, x] for z in range(40) for y, x in rod])
    >>> is_single(rod), is_single(np.concatenate([rod, rod + [0, 0, 8]]))
    (True, False)
    """
    centered = coordinates - coordinates.mean(axis=0)
    variances, axes = np.linalg.eigh(centered.T @ centered / len(centered))
    along, across = centered @ axes[:, 2], centered @ axes[:, :2]
    section = len(centered) / np.sqrt(12 * variances[2] + 1)  # a rod of n slices has the variance (n^2 - 1) / 12
    powers = np.stack([np.ones_like(along), along, along**2], axis=1)
    fitted, *_ = np.linalg.lstsq(powers, across, rcond=None)
    rest = across - powers @ fitted
    return bool(np.linalg.eigvalsh(rest.T @ rest / len(rest))[1] < _ROUND * section / (4 * np.pi))


def _owned(chains: list[NDArray[np.float64]], coordinates: NDArray[np.int64], min_voxels: int) -> FibreLines | None:
    """The lines that own enough voxels; the smallest is left out until all do."""
    while len(chains) > 1:
        owner = np.repeat(np.arange(len(chains)), [len(chain) for chain in chains])
        lines = FibreLines(np.concatenate(chains), owner)
        owned = np.bincount(lines.nearest(coordinates), minlength=len(chains))
        if owned.min() >= min_voxels:
            return lines
        del chains[int(owned.argmin())]
    return None


@dataclass(frozen=True, eq=False)
class _End:
    """Where a branch leaves a node: a point (3,) and the direction (3,) away from the node."""

    branch: int
    point: NDArray[np.float64]
    direction: NDArray[np.float64]


def _chains(branches: list[Branch], n_nodes: int, radius: float, least_cosine: float) -> list[NDArray[np.float64]]:
    """Points (point, 3) of each fibre: branches that go on in each other, with straight steps between them."""
    at_node: list[list[_End]] = [[] for _ in range(n_nodes)]
    for number, branch in enumerate(branches):
        for end, node in enumerate(branch.nodes):
            if node is not None:
                at_node[node].append(_end(number, branch.points if end == 0 else branch.points[::-1], radius))
    group = list(range(len(branches)))
    joints: list[tuple[int, NDArray[np.float64]]] = []
    for ends in at_node:
        for one, other in _pairs(ends, least_cosine):
            joints.append((one.branch, _steps(one.point, other.point)))
            old, new = group[other.branch], group[one.branch]
            group = [new if each == old else each for each in group]
    points: dict[int, list[NDArray[np.float64]]] = {}
    for number, branch in enumerate(branches):
        points.setdefault(group[number], []).append(branch.points)
    for number, step in joints:
        points[group[number]].append(step)
    return [np.concatenate(parts) for parts in points.values()]


def _end(number: int, points: NDArray[np.float64], radius: float) -> _End:
    """`points` begin at the node; the first radius of them is bent by the meeting, and is left out where it can be."""
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    near = min(radius, along[-1] / 2)
    far = min(6 * radius, along[-1])
    first, last = points[np.searchsorted(along, near)], points[min(np.searchsorted(along, far), len(points) - 1)]
    step = last - first
    length = float(np.linalg.norm(step))
    return _End(number, first, step / length if length else np.zeros(3))


def _pairs(ends: list[_End], least_cosine: float) -> list[tuple[_End, _End]]:
    """Pairs of ends that go on in each other, the straightest first; each end once."""
    rated = []
    for i, one in enumerate(ends):
        for j, other in enumerate(ends[:i]):
            step = other.point - one.point
            length = float(np.linalg.norm(step))
            if one.branch == other.branch or length == 0:
                continue
            step = step / length
            straight = min(
                -float(one.direction @ other.direction), -float(one.direction @ step), float(other.direction @ step)
            )
            if straight >= least_cosine:
                rated.append((-straight, i, j))
    taken: set[int] = set()
    pairs = []
    for _, i, j in sorted(rated):
        if not {i, j} & taken:
            taken |= {i, j}
            pairs.append((ends[i], ends[j]))
    return pairs


def _steps(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    n = int(np.ceil(np.linalg.norm(other - one))) + 1
    return np.linspace(one, other, n)


def _length(points: NDArray[np.float64]) -> float:
    """Largest extent of points along an axis of their box's diagonal: enough to tell a fibre from a bump."""
    return float(np.linalg.norm(np.ptp(points, axis=0)))
