"""The skeleton of a component as a graph: branches between the nodes where they meet."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

_NEIGHBOR = 1.8  # voxels: sqrt(3) across corners, and less than 2


@dataclass(frozen=True, eq=False)
class Branch:
    """A line of the skeleton: `points` (point, 3) in order, and the nodes at both ends, None for a free end."""

    points: NDArray[np.float64]
    nodes: tuple[int | None, int | None]

    @property
    def is_free(self) -> bool:
        """Whether it ends at one node only."""
        return (self.nodes[0] is None) != (self.nodes[1] is None)

    @property
    def length(self) -> float:
        """Along the points, in voxels; one voxel for a single point."""
        return float(np.linalg.norm(np.diff(self.points, axis=0), axis=1).sum()) + 1.0


def branches_of(skeleton: NDArray[np.int64]) -> tuple[list[Branch], int]:
    """Branches between the nodes of a skeleton (voxel, 3), and how many nodes there are.

    A node is a group of adjoining voxels with three neighbors or more.

    >>> branches, n_nodes = branches_of(np.array([[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 1, 3], [0, -1, 3]]))
    >>> n_nodes, sorted(len(branch.points) for branch in branches)
    (1, [1, 1, 2])
    """
    pairs = cKDTree(skeleton).query_pairs(_NEIGHBOR, output_type="ndarray")
    count = len(skeleton)
    is_node = np.bincount(pairs.ravel(), minlength=count) >= 3
    same = is_node[pairs[:, 0]] == is_node[pairs[:, 1]]
    kept = pairs[same]
    graph = coo_array((np.ones(len(kept), bool), (kept[:, 0], kept[:, 1])), shape=(count, count))
    _, group = connected_components(graph, directed=False)
    node_groups, node_of = np.unique(group[is_node], return_inverse=True)
    node = np.full(count, -1)
    node[is_node] = node_of
    touched: dict[int, list[int]] = {}
    for one, other in pairs[~same]:
        line, meeting = (other, one) if is_node[one] else (one, other)
        touched.setdefault(int(line), []).append(int(node[meeting]))
    neighbors: dict[int, list[int]] = {}
    for one, other in kept[~is_node[kept[:, 0]]]:
        neighbors.setdefault(int(one), []).append(int(other))
        neighbors.setdefault(int(other), []).append(int(one))
    lines: dict[int, list[int]] = {}
    for voxel in np.flatnonzero(~is_node):
        lines.setdefault(int(group[voxel]), []).append(int(voxel))
    return [_branch(skeleton, voxels, neighbors, touched) for voxels in lines.values()], len(node_groups)


def _branch(
    skeleton: NDArray[np.int64], voxels: list[int], neighbors: dict[int, list[int]], touched: dict[int, list[int]]
) -> Branch:
    # A closed ring without a node has no end; it is cut at its first voxel.
    ends = [voxel for voxel in voxels if len(neighbors.get(voxel, ())) < 2]
    order, previous = [ends[0] if ends else voxels[0]], -1
    while len(order) < len(voxels):
        further = [voxel for voxel in neighbors[order[-1]] if voxel != previous]
        previous = order[-1]
        order.append(further[0])
    points = skeleton[order].astype(np.float64)
    if len(order) == 1:
        nodes = [*touched.get(order[0], []), None, None]
        return Branch(points, (nodes[0], nodes[1]))
    first, last = (touched.get(voxel, [None])[0] for voxel in (order[0], order[-1]))
    return Branch(points, (first, last))


def merged_nodes(branches: list[Branch], n_nodes: int, longest_bridge: float) -> tuple[list[Branch], int]:
    """Nodes joined by a branch of at most `longest_bridge` voxels become one, and such branches are left out."""
    is_bridge = [None not in branch.nodes and branch.length <= longest_bridge for branch in branches]
    bridges = [branch.nodes for branch, short in zip(branches, is_bridge, strict=True) if short]
    ends = np.array(bridges, dtype=np.intp).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), shape=(n_nodes, n_nodes))
    n_merged, merged = connected_components(graph, directed=False)
    kept = [branch for branch, short in zip(branches, is_bridge, strict=True) if not short]
    first_last = [tuple(None if node is None else int(merged[node]) for node in branch.nodes) for branch in kept]
    return [replace(b, nodes=(n[0], n[1])) for b, n in zip(kept, first_last, strict=True)], int(n_merged)
