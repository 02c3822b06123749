"""STAWM's training, with progress reports and checkpoints."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attnbench.backbones.backbone import Backbone
from attnbench.errors import AttnbenchError
from pretraining.recipes import Recipe, TrainingSet, batches
from pretraining.stawm.network import StawmAutoencoder
from pretraining.vae import beta_vae_loss

_MAX_GRADIENT = 5.0  # of a single parameter
_REPORT_INTERVAL, _SAVE_INTERVAL = 30.0, 120.0  # seconds


def train_stawm(
    recipe: Recipe, backbone: Backbone, training_set: TrainingSet, checkpoint: Path | None = None
) -> dict[str, str]:
    """Train a STAWM backbone in place, on a GPU if there is one.

    Args:
        recipe: the recipe.
        backbone: as returned by `untrained_stawm`, in training mode.
        training_set: the pictures; labels are not used.
        checkpoint: a file to save the training to. If it exists, training continues from it, with the
            same result as without the interruption.

    Returns:
        Metadata: the last epoch's loss per image, as `loss_per_image`.

    Raises:
        AttnbenchError: if the checkpoint belongs to another recipe.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = StawmAutoencoder(backbone).train().to(device)
    model.to(memory_format=torch.channels_last)
    steps = recipe.epochs * -(-len(training_set.pixels) // recipe.batch)
    optimiser, schedule = optimiser_and_schedule(model, recipe.learning_rate, steps)
    progress = _Progress(recipe, checkpoint, [model, optimiser, schedule])
    while progress.epoch < recipe.epochs:
        # Seeded per epoch, so that a continued training gets the same batches.
        rng = np.random.default_rng([recipe.seed, progress.epoch])
        epoch_batches = batches(rng.permutation(len(training_set.pixels)), recipe.batch)
        for rows in epoch_batches[progress.step :]:
            images = torch.from_numpy(training_set.unit_range(rows))
            if recipe.mirrored:
                images = torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images.flip(3), images)
            images = images.to(device, memory_format=torch.channels_last)
            loss = beta_vae_loss(images, *model(images))
            descend(model, loss, optimiser, schedule)
            progress.after_step(loss.item(), len(rows), len(epoch_batches))
        progress.after_epoch()
    model.cpu()
    return {"loss_per_image": f"{progress.last_loss:.3f}"}


def optimiser_and_schedule(
    model: nn.Module, learning_rate: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Return Adam, and a rate that is divided by ten after 0.5 and 0.9 of the steps."""
    optimiser = torch.optim.Adam(model.parameters(), learning_rate)
    milestones = [round(share * steps) for share in (0.5, 0.9)]
    return optimiser, torch.optim.lr_scheduler.MultiStepLR(optimiser, milestones)


def descend(
    model: nn.Module,
    loss: Tensor,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    """Take a step, with each parameter's gradient clipped at 5."""
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_value_(model.parameters(), _MAX_GRADIENT)
    optimiser.step()
    schedule.step()


class _Progress:
    """How far a training has come. Reports it on stderr and saves it to a checkpoint file.

    Args:
        recipe: the recipe.
        file: the checkpoint, or None to save nothing. If it exists, it is loaded.
        stateful: the model, the optimiser and the schedule, whose states are part of the checkpoint.

    Attributes:
        epoch: the current epoch, from 0.
        step: the next step in this epoch, from 0.
        seen: the number of images seen in this epoch.
        loss: the sum of this epoch's losses.
        last_loss: the previous epoch's loss per image.

    Raises:
        AttnbenchError: if the checkpoint belongs to another recipe.
    """

    def __init__(self, recipe: Recipe, file: Path | None, stateful: Sequence[Any]) -> None:
        self._recipe, self._file, self._stateful = recipe, file, stateful
        self.epoch = self.step = self.seen = 0
        self.loss = self.last_loss = 0.0
        self._reported = self._saved = time.monotonic()
        if file is not None and file.exists():
            self._load(file)
        # The remaining time is estimated from the steps of this process only.
        self._first, self._started = (self.epoch, self.step), time.monotonic()

    def after_step(self, loss: float, images: int, steps: int) -> None:
        """Record a step; report and save if it is time to.

        Args:
            loss: the step's loss, summed over its images.
            images: the number of images in its batch.
            steps: the number of steps in an epoch.
        """
        self.step += 1
        self.seen += images
        self.loss += loss
        now = time.monotonic()
        if now - self._reported > _REPORT_INTERVAL:
            done, first = (
                epoch * steps + step for epoch, step in ((self.epoch, self.step), self._first)
            )
            remaining_steps = self._recipe.epochs * steps - done
            remaining = (now - self._started) / (done - first) * remaining_steps
            self._report(f"step {self.step} of {steps}: ", f", about {remaining / 60:.0f} min left")
            self._reported = now
        if now - self._saved > _SAVE_INTERVAL:
            self._save()

    def after_epoch(self) -> None:
        """Record the end of an epoch, report and save it. Call it after the schedule's step."""
        self._report()
        self.last_loss = self.loss / self.seen
        self.epoch += 1
        self.step = self.seen = 0
        self.loss = 0.0
        self._save()

    def _report(self, prefix: str = "", suffix: str = "") -> None:
        epoch = f"epoch {self.epoch + 1} of {self._recipe.epochs}"
        loss = f"loss {self.loss / self.seen:.2f} per image"
        print(f"{epoch}, {prefix}{loss}{suffix}", file=sys.stderr, flush=True)

    def _save(self) -> None:
        if self._file is None:
            return
        checkpoint = {name: getattr(self, name) for name in _SAVED_ATTRIBUTES}
        checkpoint |= {"recipe": self._recipe.sha256, "random": torch.get_rng_state()}
        checkpoint["parts"] = [part.state_dict() for part in self._stateful]
        if torch.cuda.is_available():
            checkpoint["random_cuda"] = torch.cuda.get_rng_state()
        # Written under another name and renamed when complete: training may be killed at any time.
        unfinished = self._file.with_name(f"{self._file.name}.part")
        torch.save(checkpoint, unfinished)
        unfinished.replace(self._file)
        self._saved = time.monotonic()

    def _load(self, file: Path) -> None:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
        if checkpoint["recipe"] != self._recipe.sha256:
            raise AttnbenchError(
                f"the checkpoint {file} belongs to another recipe; "
                "delete it to start anew, or choose another --out"
            )
        for name in _SAVED_ATTRIBUTES:
            setattr(self, name, checkpoint[name])
        for part, state in zip(self._stateful, checkpoint["parts"], strict=True):
            part.load_state_dict(state)
        torch.set_rng_state(checkpoint["random"])
        if torch.cuda.is_available() and "random_cuda" in checkpoint:
            torch.cuda.set_rng_state(checkpoint["random_cuda"])


# Attributes of `_Progress` that are part of a checkpoint.
_SAVED_ATTRIBUTES = ("epoch", "step", "seen", "loss", "last_loss")
