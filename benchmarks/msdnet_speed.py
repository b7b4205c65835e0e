"""MSDNet against dlsia's: `python benchmarks/msdnet_speed.py --peer-python ENVIRONMENT/bin/python [--device cuda]`.

Each side and task runs in a process of its own, which measures the same network (ReLU, same normalization), the same
tile, L1 loss and Adam. The two sides take turns; medians are compared. Memory is the peak of the process above what it
has before the first step, torch, network and tile included; on a GPU, the peak of torch's allocations likewise.
Without --peer-python only this side runs. The share of the machine's arithmetic is that of a large matrix product.
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
from typing import Any

TASKS = ("train", "infer")


def build(side: str, layers: int, dilation: int, normalization: str) -> Any:
    """The network as either side makes it; imports are here because each process has one of them only."""
    import torch

    torch.manual_seed(0)
    batch = normalization == "batch"
    if side == "peer":
        from dlsia.core.networks.msdnet import MixedScaleDenseNetwork

        kind = torch.nn.BatchNorm2d if batch else None
        return MixedScaleDenseNetwork(1, 1, num_layers=layers, max_dilation=dilation, normalization=kind)
    from dlsia_core.networks import build_network

    settings = {"in_channels": 1, "out_channels": 1, "num_layers": layers, "max_dilation": dilation}
    return build_network({"network": "MSDNet", "normalization": "batch" if batch else None, **settings}, seed=0)


def step_of(side: str, options: dict[str, Any]) -> Callable[[], None]:
    """One training step or one inference, ready to be called again and again."""
    import torch

    device = torch.device(options["device"])
    network = build(side, options["layers"], options["dilation"], options["normalization"]).to(device)
    x = torch.randn(options["batch"], 1, *options["shape"], device=device)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None

    def precision() -> Any:
        return torch.autocast(device.type, torch.bfloat16) if options["bf16"] else nullcontext()

    def train() -> None:
        optimizer.zero_grad()
        with precision():
            loss = (network(x) - x).abs().mean()
        loss.backward()
        optimizer.step()
        synchronize()

    def infer() -> None:
        with torch.inference_mode(), precision():
            network(x)
        synchronize()

    network.train(options["task"] == "train")
    return train if options["task"] == "train" else infer


def memory_mib(device: str, peak: bool) -> float:
    import torch

    if device != "cpu":
        return (torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()) / 2**20
    field = "VmHWM:" if peak else "VmRSS:"
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def arithmetic(options: dict[str, Any]) -> float:
    """Operations per second of a matrix product that stays in the cache, or of a large one on a GPU."""
    import torch

    size = 768 if options["device"] == "cpu" else 8192
    dtype = torch.bfloat16 if options["bf16"] else torch.float32
    a, b = (torch.randn(size, size, device=options["device"], dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(20):
        started = time.perf_counter()
        result = a @ b
        float(result[0, 0])  # waits for a GPU
        seconds.append(time.perf_counter() - started)
    return float(2 * size**3 / statistics.median(seconds))


def work(side: str, options: dict[str, Any]) -> None:
    """Answer a line "step" with the seconds of one step, "memory" with its peak in MiB, "arithmetic" with its rate."""
    import torch

    torch.set_num_threads(options["threads"])
    step = step_of(side, options)
    before = memory_mib(options["device"], peak=False)
    clock = time.process_time if options["cpu_time"] else time.perf_counter
    for line in sys.stdin:
        if line.strip() == "step":
            started = clock()
            step()
            answer = clock() - started
        elif line.strip() == "memory":
            answer = memory_mib(options["device"], peak=True) - before
        else:
            answer = arithmetic(options)
        print(answer, flush=True)


class Side:
    """A process that measures one side."""

    def __init__(self, python: str, side: str, options: dict[str, Any]) -> None:
        path = {"PYTHONPATH": str(Path(__file__).parent.parent)} if side == "ours" else {}
        command = [python, "-W", "ignore", __file__, "--worker", side, "--options", json.dumps(options)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **path}
        )

    def ask(self, question: str) -> float:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def operations(options: dict[str, Any]) -> float:
    """Multiplications and additions of a forward pass; a training step has three times as many."""
    layers, (rows, columns) = options["layers"], options["shape"]
    per_pixel = sum(2 * 9 * (1 + layer) for layer in range(layers)) + 2 * (1 + layers)
    return float(per_pixel * rows * columns * options["batch"] * (3 if options["task"] == "train" else 1))


def compare(options: dict[str, Any], peer_python: str | None, repeats: int) -> None:
    """Measure one task and print its line."""
    ours = Side(sys.executable, "ours", options)
    peer = Side(peer_python, "peer", options) if peer_python else None
    for side in (ours, peer):
        if side:
            side.ask("step")  # warms up
    memory, peer_memory = ours.ask("memory"), peer.ask("memory") if peer else float("nan")
    seconds, peer_seconds = [], []
    for _ in range(repeats):
        seconds += [ours.ask("step") for _ in range(3)]
        peer_seconds.append(peer.ask("step") if peer else float("nan"))
    a, b = statistics.median(seconds), statistics.median(peer_seconds)
    reached, possible = operations(options) / a, ours.ask("arithmetic")
    for side in (ours, peer):
        if side:
            side.close()
    print(
        f"{options['task']:5}  ours {a:7.3f} s {memory:7.0f} MiB   dlsia {b:7.3f} s {peer_memory:7.0f} MiB   "
        f"speed x {b / a:5.1f}   memory 1/{peer_memory / memory:4.1f}   "
        f"{reached / 1e9:.0f} of {possible / 1e9:.0f} GFLOP/s ({reached / possible:.0%})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python", help="Python of an environment with dlsia 0.3.4")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shape", type=int, nargs=2, default=[512, 128])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--layers", type=int, default=200)
    parser.add_argument("--dilation", type=int, default=15)
    parser.add_argument("--normalization", choices=["none", "batch"], default="none")
    parser.add_argument("--bf16", action="store_true", help="both sides under autocast")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--cpu-time", action="store_true", help="processor seconds, for a machine that is not quiet")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--worker", choices=["ours", "peer"], help=argparse.SUPPRESS)
    parser.add_argument("--options", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker, json.loads(given.options))
        return
    keys = ("device", "shape", "batch", "layers", "dilation", "normalization", "bf16", "threads", "cpu_time")
    options = {key: getattr(given, key) for key in keys}
    print(options)
    for task in given.tasks:
        compare({**options, "task": task}, given.peer_python, given.repeats)


if __name__ == "__main__":
    main()
