"""SMSNet against dlsia's: `python benchmarks/smsnet_speed.py --peer-python ENVIRONMENT/bin/python [--device cuda]`.

dlsia draws random graphs with the paper's defaults and this side builds its networks on the same graphs, with the same
dilations; the same tile, cross entropy and Adam. Each side runs in a process of its own, the two take turns, and the
median over all graphs and repeats of the ratios of neighboring calls counts. Rows of this side:

  sum 6          the setting of dlsia: 6 hidden channels; in the form of the paper's dense networks it is smaller
  sum 8          nearer to dlsia's number of parameters
  concatenate 5  dlsia's own form, in which each edge has channels of its own, and about its number of parameters; edges
                 from the input have 5 channels here and 1 there, and there is no batch normalization here

Memory is the largest resident size of a process that did two steps, above the same process after its imports (CUDA:
allocated at most). Without --peer-python only this side runs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

ROWS = {"sum 6": ("sum", 6), "sum 8": ("sum", 8), "concatenate 5": ("concatenate", 5)}
TASKS = ("train", "infer")


def peer_network(options: dict[str, Any], seed: int) -> Any:
    """dlsia's network; its global random state is all it takes as a seed."""
    import numpy as np
    import torch
    from dlsia.core.networks.smsnet import random_SMS_network

    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    law = {
        "LL_alpha": 0.875,
        "LL_gamma": 0.25,
        "LL_max_degree": 5,
        "LL_min_degree": 1,
        "IL": 1.0,
        "LO": 1.0,
        "IO": True,
    }
    return random_SMS_network(
        in_channels=1,
        out_channels=2,
        layers=options["depth"],
        dilation_choices=list(range(1, 11)),
        hidden_out_channels=[6],
        layer_probabilities=law,
        network_type="Classification",
    )


def peer_graph(network: Any) -> dict[str, Any]:
    """dlsia's graph in the words of this project: node 0 is the input, the last the output, read without dilation."""
    last = network.network_graph.number_of_nodes() - 1
    edges = [(int(i), int(j), int(d)) for i, j, d in network.network_graph.edges(data="dilation")]
    return {
        "depth": last - 1,
        "edges": sorted(edge for edge in edges if edge[1] < last),
        "outputs": sorted(source for source, target, _ in edges if target == last),
        "gamma": None,
        "alpha": None,
    }


def our_network(row: str, graph: dict[str, Any] | None, options: dict[str, Any], seed: int) -> Any:
    from dlsia_core.networks import build_network

    merge, channels = ROWS[row]
    config = {"network": "SMSNet", "in_channels": 1, "out_channels": 2, "hidden_channels": channels, "merge": merge}
    if graph is None:
        return build_network(config | {"depth": options["depth"], "graph_seed": seed}, seed=0)
    taken = {"depth": graph["depth"], "graph": graph, "min_degree": 0, "max_degree": graph["depth"]}
    free = {"p_input": 0.99, "p_output": 0.99, "input_to_output": 0 in graph["outputs"]}
    return build_network(config | taken | free, seed=0)


def step_of(network: Any, task: str, options: dict[str, Any]) -> Callable[[], None]:
    """One training step or one inference, ready to be called again and again."""
    import torch

    device = torch.device(options["device"])
    network = network.to(device)
    network.train(task == "train")
    x = torch.randn(options["batch"], 1, *options["shape"], device=device)
    label = (x[:, 0] > 0).long()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None

    def precision() -> Any:
        return torch.autocast(device.type, torch.bfloat16) if options["bf16"] else nullcontext()

    def train() -> None:
        optimizer.zero_grad()
        with precision():
            loss = torch.nn.functional.cross_entropy(network(x), label)
        loss.backward()
        optimizer.step()
        synchronize()

    def infer() -> None:
        with torch.inference_mode(), precision():
            network(x)
        synchronize()

    return train if task == "train" else infer


def work(side: str, options: dict[str, Any]) -> None:
    """Answer each line: "build" with parameters and graph, "seconds" of one call, "memory" in MiB of all so far."""
    import torch

    torch.set_num_threads(options["threads"])
    if side == "peer":
        import dlsia.core.networks.smsnet  # noqa: F401
    else:
        import dlsia_core.networks  # noqa: F401
    bare = getrusage(RUSAGE_SELF).ru_maxrss
    clock = time.process_time if options["cpu_time"] else time.perf_counter
    step: Callable[[], None] = lambda: None  # noqa: E731
    for line in sys.stdin:
        order, *given = json.loads(line)
        answer: Any = None
        if order == "build":
            row, graph, seed, task = given
            network = peer_network(options, seed) if side == "peer" else our_network(row, graph, options, seed)
            parameters = sum(p.numel() for p in network.parameters())
            answer = [parameters, peer_graph(network) if side == "peer" else None]
            step = step_of(network, task, options)
            step()
        elif order == "seconds":
            started = clock()
            step()
            answer = clock() - started
        elif options["device"] == "cpu":
            answer = (getrusage(RUSAGE_SELF).ru_maxrss - bare) / 1024
        else:
            answer = torch.cuda.max_memory_allocated() / 2**20
        print(json.dumps(answer), flush=True)


class Side:
    """A process that measures one side."""

    def __init__(self, python: str, side: str, options: dict[str, Any]) -> None:
        path = {"PYTHONPATH": str(Path(__file__).parent.parent)} if side == "ours" else {}
        command = [python, "-W", "ignore", __file__, "--worker", side, "--options", json.dumps(options)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **path}
        )

    def ask(self, *order: Any) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def compare(row: str, task: str, options: dict[str, Any], python: str | None) -> str:
    """One line of the table."""
    ours = Side(sys.executable, "ours", options)
    theirs = Side(python, "peer", options) if python else None
    seconds: list[tuple[float, float]] = []
    sizes: list[tuple[int, int]] = []
    for seed in range(1, options["graphs"] + 1):
        their_size, graph = theirs.ask("build", row, None, seed, task) if theirs else (0, None)
        sizes.append((ours.ask("build", row, graph, seed, task)[0], their_size))
        for _ in range(options["repeats"]):
            seconds.append((ours.ask("seconds"), theirs.ask("seconds") if theirs else float("nan")))
    memories = (ours.ask("memory"), theirs.ask("memory") if theirs else float("nan"))
    for side in (ours, theirs):
        if side:
            side.close()
    mine, their = (1e3 * statistics.median(column) for column in zip(*seconds, strict=True))
    ratio = statistics.median(b / a for a, b in seconds)
    size, their_size = (statistics.mean(column) for column in zip(*sizes, strict=True))
    return (
        f"{task:5}  {row:14} {mine:8.1f} ms {memories[0]:6.0f} MiB {size:7,.0f} parameters | "
        f"dlsia {their:8.1f} ms {memories[1]:6.0f} MiB {their_size:7,.0f} | "
        f"time / {ratio:5.2f}  memory / {memories[1] / memories[0]:5.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", help="Python of an environment with dlsia 0.3.4")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shape", type=int, nargs=2, default=[256, 256])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--depth", type=int, default=30)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--cpu-time", action="store_true", help="processor seconds, for a machine that is not quiet")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16 on both sides")
    parser.add_argument("--graphs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--worker", choices=["ours", "peer"], help=argparse.SUPPRESS)
    parser.add_argument("--options", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker, json.loads(given.options))
        return
    keys = ("device", "shape", "batch", "depth", "threads", "cpu_time", "bf16", "graphs", "repeats")
    options = {key: getattr(given, key) for key in keys}
    print(options)
    for task in given.tasks:
        for row in given.rows:
            print(compare(row, task, options, given.peer_python), flush=True)


if __name__ == "__main__":
    main()
