"""TUNet against dlsia's: `python benchmarks/tunet_speed.py --peer-python ENVIRONMENT/bin/python [--device cuda]`.

Each side runs in a process of its own, with the same network (batch normalization, ReLU, 2x2 up-convolutions), the same
tiles, L1 loss and Adam; the two take turns, and medians are compared. Without --peer-python only this side runs.
`fit` and `run_in_batches` give a network channels-last weights, so that "channels_last" is what the pipeline does.
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

MODES = ("float32", "channels_last", "bf16", "bf16 channels_last")
TASKS = ("train", "infer")


def build(side: str, shape: list[int], depth: int, base: int) -> Any:
    """The network as either side makes it; imports are here because each process has one of them only."""
    import torch

    torch.manual_seed(0)
    if side == "peer":
        from dlsia.core.networks.tunet import TUNet

        return TUNet(image_shape=shape, in_channels=1, out_channels=1, depth=depth, base_channels=base)
    from dlsia_core.networks import TUNet

    return TUNet(1, 1, depth, base, normalization="batch", up_kernel_size=2)


def step_of(side: str, mode: str, task: str, options: dict[str, Any]) -> Callable[[], None]:
    """One training step or one inference of a batch, ready to be called again and again."""
    import torch

    device = torch.device(options["device"])
    network = build(side, options["shape"], options["depth"], options["base"]).to(device)
    x = torch.randn(options["batch"], 1, *options["shape"], device=device)
    if "channels_last" in mode:
        network, x = network.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None

    def precision() -> Any:
        return torch.autocast(device.type, torch.bfloat16) if "bf16" in mode else nullcontext()

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

    network.train(task == "train")
    return train if task == "train" else infer


def work(side: str, options: dict[str, Any]) -> None:
    """Answer each line [mode, task] with the seconds of one call; the first call of a kind only warms up."""
    import torch

    torch.set_num_threads(options["threads"])
    steps: dict[tuple[str, str], Callable[[], None]] = {}
    for line in sys.stdin:
        mode, task = json.loads(line)
        if (mode, task) not in steps:
            steps = {(mode, task): step_of(side, mode, task, options)}  # one at a time, to keep memory small
            steps[mode, task]()
        clock = time.process_time if options["cpu_time"] else time.perf_counter
        started = clock()
        steps[mode, task]()
        print(clock() - started, flush=True)


class Side:
    """A process that measures one side."""

    def __init__(self, python: str, side: str, options: dict[str, Any]) -> None:
        path = {"PYTHONPATH": str(Path(__file__).parent.parent)} if side == "ours" else {}
        command = [python, "-W", "ignore", __file__, "--worker", side, "--options", json.dumps(options)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **path}
        )

    def seconds(self, mode: str, task: str) -> float:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps([mode, task]) + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def compare(ours: Side, peer: Side | None, modes: list[str], repeats: int) -> None:
    for task in TASKS:
        for mode in modes:
            pairs = [
                (ours.seconds(mode, task), peer.seconds("float32", task) if peer else float("nan"))
                for _ in range(repeats)
            ]
            a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
            print(f"{task:6} {mode:20} ours {1e3 * a:8.1f} ms   dlsia float32 {1e3 * b:8.1f} ms   ratio {b / a:5.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python", help="Python of an environment with dlsia 0.3.4")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shape", type=int, nargs=2, default=[512, 128])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--base", type=int, default=16)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--cpu-time", action="store_true", help="processor seconds, for a machine that is not quiet")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--worker", choices=["ours", "peer"], help=argparse.SUPPRESS)
    parser.add_argument("--options", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker, json.loads(given.options))
        return
    keys = ("device", "shape", "batch", "depth", "base", "threads", "cpu_time")
    options = {key: getattr(given, key) for key in keys}
    print(options)
    ours = Side(sys.executable, "ours", options)
    peer = Side(given.peer_python, "peer", options) if given.peer_python else None
    compare(ours, peer, given.modes, given.repeats)
    for side in (ours, peer):
        if side:
            side.close()


if __name__ == "__main__":
    main()
