"""The training loop: regression, segmentation, inpainting and autoencoding alike."""

import math
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from dlsia_core.errors import SettingError
from dlsia_core.losses import Loss
from dlsia_core.networks.inference import deterministic
from dlsia_core.training.errors import TrainingError
from dlsia_core.training.examples import Batch, Examples, random_state, shuffled_batches
from dlsia_core.training.history import EpochRecord, Progress, WeightedMean
from dlsia_core.training.hooks import Hook, Start, StepRecord
from dlsia_core.training.keeper import Keeper, identity_of
from dlsia_core.training.listeners import EpochCallback, Listeners
from dlsia_core.training.metrics import Metric
from dlsia_core.training.reading import read_ahead
from dlsia_core.training.run import Run
from dlsia_core.training.settings import TrainSettings


@dataclass(frozen=True)
class FitResult:
    """network: with the best weights, in eval mode, on its device; stopped: "epochs" or "patience".

    best_loss: the loss of the best epoch; last_weights: a copy of the weights at the end, on the CPU, no average.
    """

    network: nn.Module
    history: tuple[EpochRecord, ...]
    best_epoch: int
    best_loss: float
    stopped: str
    last_weights: dict[str, Tensor] = field(repr=False)


def fit(
    network: nn.Module,
    training: Examples,
    loss: Loss,
    settings: TrainSettings,
    *,
    validation: Examples | None = None,
    metrics: Sequence[Metric] = (),
    checkpoint_folder: str | Path | None = None,
    checkpoint_seconds: float = 15.0,
    device: str | torch.device | None = None,
    fabric: Fabric | None = None,
    prefetch: int = 0,
    hooks: Sequence[Hook] = (),
    on_epoch: EpochCallback | None = None,
    max_seconds: float | None = None,
) -> FitResult:
    """Train `network` in place and leave it with the weights of its best epoch (validation loss; without: training).

    loss: a function (prediction, target, weight) -> weighted mean, or an object whose repr tells its settings.
    metrics: measured on the validation examples after each epoch and written into its record.
    checkpoint_folder: where the state is kept; the same call after a kill goes on from there, to the same bits as if
        undisturbed; after the end it returns the stored result at once. None = no checkpoint. Best and last network
        can be taken from it at any time: see `network_of_checkpoint`.
    checkpoint_seconds: write after the first step that ends this long after the last checkpoint; 0 = after every step.
    device: None = the CPU, or what `fabric` has.
    fabric: a launched Lightning Fabric, for several GPUs or processes (strategy "ddp"); each process makes this call,
        takes a share of each batch, and gets the result of one process alone, to rounding (dropout draws differ).
    prefetch: batches that a thread reads ahead; 0 = none. The result is the same.
    hooks, on_epoch: what to call while it runs; `on_epoch` gets each epoch's record and the estimated seconds left.
    max_seconds: of this call; afterwards the state is written and TrainingTimeoutError raised: a shorter training that
        passed for a complete one would make the result depend on the machine.
    Raises TrainingDivergedError (no finite loss or gradient), CheckpointMismatchError (checkpoint of another training),
    SettingError (what contradicts the settings, the device or the network).
    """
    if metrics and validation is None:
        raise SettingError("metrics are measured on validation examples, and none are given")
    if settings.monitor != "loss" and not metrics:
        raise SettingError(f"monitor is {settings.monitor!r}; give the metric that computes it, or monitor the loss")
    identity = identity_of(network, training, validation, loss, settings, metrics)
    run = Run(network, loss, settings, device, fabric)
    keeper = Keeper(checkpoint_folder, checkpoint_seconds, max_seconds, identity, run.processes)
    progress = keeper.restore(run.live)
    listeners = Listeners(hooks, on_epoch, first_process=run.processes.rank == 0)
    cuda = [run.device] if run.device.type == "cuda" else []
    steps = math.ceil(len(training) / settings.batch_size)
    start = Start(settings.epochs, steps, tuple(progress.history), progress.step)
    with torch.random.fork_rng(devices=cuda), deterministic(run.device), listeners.listening(start):
        while progress.epoch < settings.epochs and not settings.watch.out_of_patience(progress.history):
            _train_epoch(run, training, progress, keeper, listeners, prefetch)
            _close_epoch(run, validation, metrics, progress, prefetch)
            keeper.save_if_due(run.live, progress)
            listeners.epoch(progress, settings.epochs)
    keeper.save(run.live, progress)
    return _result(network, settings, progress)


def _train_epoch(
    run: Run, training: Examples, progress: Progress, keeper: Keeper, listeners: Listeners, prefetch: int
) -> None:
    """The steps of one epoch that are still to do."""
    settings, epoch = run.settings, progress.epoch
    run.network.train()
    batches = shuffled_batches(len(training), settings.batch_size, settings.seed, epoch)

    def read(indices: NDArray[np.int64]) -> Batch:
        own, is_own = run.processes.share(indices)
        batch = training.batch(epoch, own)
        return batch if is_own else batch.without_weight()

    with closing(read_ahead(read, batches[progress.step :], prefetch)) as reading:
        for step in range(progress.step, len(batches)):
            keeper.require_time(run.live, progress)
            began = time.monotonic()
            rate = settings.learning_rate_at(epoch + step / len(batches), progress.history)
            run.set_learning_rate(rate)
            # A network's own randomness follows from (seed, epoch, step), so that a resume meets the same dropout.
            torch.manual_seed(_seed_of_step(settings.seed, epoch, step, run.processes.rank))
            loss, weight = run.learn(next(reading), f"epoch {epoch}, step {step}")
            progress.mean.add(loss, weight)
            progress.step, progress.seconds = step + 1, progress.seconds + time.monotonic() - began
            keeper.save_if_due(run.live, progress)
            listeners.step(StepRecord(epoch, step, len(batches), rate, loss))


def _seed_of_step(seed: int, epoch: int, step: int, rank: int) -> int:
    own = random_state(seed, epoch, step)
    return int(own.integers(2**62, size=rank + 1)[rank])


def _close_epoch(
    run: Run, validation: Examples | None, metrics: Sequence[Metric], progress: Progress, prefetch: int
) -> None:
    """Validate, write the record, keep the weights (copied) if they are the best, go on to the next epoch."""
    began, epoch, watch = time.monotonic(), progress.epoch, run.settings.watch
    loss, numbers = None, dict[str, float]()
    with run.judged_weights():
        if validation is not None:
            loss, numbers = run.validate(validation, metrics, prefetch, f"epoch {epoch}, validation")
        record = EpochRecord(
            epoch=epoch,
            learning_rate=run.settings.learning_rate_at(epoch, progress.history),
            training_loss=progress.mean.value,
            validation_loss=loss,
            seconds=progress.seconds + time.monotonic() - began,
            metrics=numbers,
        )
        best = math.inf if progress.best_epoch is None else watch.cost(progress.history[progress.best_epoch])
        if watch.cost(record) < best:
            progress.best_weights, progress.best_epoch = _copy_of_weights(run.network), epoch
    progress.history.append(record)
    progress.epoch, progress.step, progress.seconds, progress.mean = epoch + 1, 0, 0.0, WeightedMean()


def _copy_of_weights(network: nn.Module) -> dict[str, Tensor]:
    # .cpu() alone would return the live tensor of a network that is on the CPU.
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}


def _result(network: nn.Module, settings: TrainSettings, progress: Progress) -> FitResult:
    """Give the network the weights of its best epoch."""
    if progress.best_epoch is None:
        raise TrainingError(
            f"{settings.monitor} was never a number in {progress.epoch} epochs, so that none is best; monitor the loss"
        )
    last = _copy_of_weights(network)
    network.load_state_dict(progress.best_weights)
    stopped = "epochs" if progress.epoch == settings.epochs else "patience"
    best_loss = progress.history[progress.best_epoch].loss
    return FitResult(network.eval(), tuple(progress.history), progress.best_epoch, best_loss, stopped, last)
