"""Training without labels by drawing in glimpses: STAWM (Harris et al. 2019, arXiv 1901.03665).

Eight windows on the picture, placed by affine transforms, are written into a Hebb-Rosenblatt memory.
After each of them the memory's answer gives means and log-variances of 32 dimensions, a sample of
these a sketch, and the sketch is placed on the canvas by an inverse transform: one that the network
gives beside the window's, as in the authors' code, not the window's matrix inverted. Loss: that of
the beta-VAE beside this file. 2,504,946 parameters: the published 2,570,738 but for a layer of
65,792 that is never used.

The backbone's stages are `memory`, the answer after the last glimpse `[n, 256]`, and `code`, its 32
means. `python -m attnbench.backbones.pretraining.stawm WEIGHTS --data DIR` probes both, and the
memory as published.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import relu6

from attnbench.adaptation.glimpses import HebbRosenblatt, Written, sample
from attnbench.backbones.backbone import Backbone, Preprocessing
from attnbench.backbones.pretraining.probe import codes, probe_error, testing_split
from attnbench.backbones.pretraining.recipes import (
    CIFAR_SOURCE,
    MNIST_SOURCE,
    Pictures,
    Recipe,
    batches,
)
from attnbench.backbones.pretraining.vae import LATENT, loss
from attnbench.errors import AttnbenchError
from attnbench.tasks import HubSource

GLIMPSES = 8
WIDTH = 256  # of the recurrent layers and of the memory
_GLIMPSE, _PICTURE = (16, 16), (32, 32)  # pixels
_SEEN = 512  # features of the context, and of a glimpse
_DROPOUT = 0.5
_LARGEST_GRADIENT = 5.0  # of a single parameter
_PICTURES = {"cifar": CIFAR_SOURCE, "mnist": MNIST_SOURCE}
_REPORT_EVERY, _SAVE_EVERY = 30.0, 120.0  # seconds


class Look(nn.Module):
    """Pictures `[n, 3, 32, 32]` in [0, 1] to the memory's answer after the last glimpse, `[n, 256]`."""

    def __init__(self) -> None:
        super().__init__()
        self.context = nn.Sequential(
            *_convolution(3, 32, 2, 1), *_convolution(32, 32, 2, 1), *_convolution(32, 32, 2, 1)
        ).append(nn.Flatten())
        self.see = nn.Sequential(
            *_convolution(3, 32, 1, 2),
            *_convolution(32, 64, 2, 1),
            *_convolution(64, 128, 2, 1),
            *_convolution(128, 128, 2, 1),
        ).append(nn.Flatten())
        self.start = nn.Sequential(nn.Linear(_SEEN, WIDTH), nn.Dropout(_DROPOUT), nn.ReLU())
        self.emitter = nn.LSTMCell(WIDTH, WIDTH)
        self.window, self.place = _transform(), _transform()
        self.glimpsed = nn.Sequential(nn.Linear(_SEEN, WIDTH), nn.Dropout(_DROPOUT), nn.ReLU())
        self.aggregator = nn.LSTMCell(WIDTH, WIDTH)
        self.what = nn.Linear(WIDTH, WIDTH)
        self.where = nn.Linear(6, WIDTH)
        self.memory = HebbRosenblatt()
        self.query = nn.Linear(_SEEN, WIDTH)

    def glimpses(self, images: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """The context `[n, 512]`; of each glimpse the memory's input `[n, 256]`, and the transform
        `[n, 2, 3]` that places its sketch."""
        context = self.context(images)
        last = self.start(context)
        emitted, aggregated = (last, torch.zeros_like(last)), None
        inputs, places = [], []
        for _ in range(GLIMPSES):
            emitted = self.emitter(last, emitted)
            window = self.window(emitted[0])
            shown = sample(images, window.unflatten(1, (2, 3)), _GLIMPSE, align_corners=True)
            aggregated = self.aggregator(self.glimpsed(self.see(shown)), aggregated)
            last = aggregated[0]
            inputs.append(relu6(self.what(last) * self.where(window)))
            places.append(self.place(emitted[0]).unflatten(1, (2, 3)))
        return context, inputs, places

    def answers(self, context: Tensor, inputs: Sequence[Tensor]) -> Iterator[Tensor]:
        """The memory's answer after each glimpse; the context asks, and learns nothing by it."""
        query = relu6(self.query(context.detach()))
        written: Written = []
        for each in inputs:
            written = self.memory.write(written, each)
            yield self.memory.read(written, query)

    def forward(self, images: Tensor) -> Tensor:
        context, inputs, _ = self.glimpses(images)
        *_, answer = self.answers(context, inputs)
        return answer


def _convolution(inputs: int, outputs: int, stride: int, padding: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, 4, stride, padding)
    nn.init.kaiming_uniform_(convolution.weight)
    return convolution, nn.ReLU()


def _transform() -> nn.Sequential:
    """The emitter's state `[n, 256]` to an affine transform `[n, 6]`, at first the identity."""
    last = nn.Linear(WIDTH // 2, 6)
    nn.init.zeros_(last.weight)
    last.bias = nn.Parameter(torch.tensor([1.0, 0, 0, 0, 1, 0]))
    return nn.Sequential(nn.Linear(WIDTH, WIDTH // 2), nn.Dropout(_DROPOUT), nn.ReLU(), last)


class Drawing(nn.Module):
    """A backbone that looks, and what makes sketches of its codes."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.log_variance = nn.Linear(WIDTH, LATENT)
        self.sketch = nn.Sequential(
            nn.Linear(LATENT, 512),
            nn.ReLU(),
            nn.Unflatten(1, (128, 2, 2)),
            nn.ConvTranspose2d(128, 128, 4, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(128, 64, 4, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 32, 4, 2, 1, output_padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 3, 4, 1, 2),
        )
        for module in self.sketch:
            if isinstance(module, nn.ConvTranspose2d):
                nn.init.kaiming_uniform_(module.weight)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Drawn images `[n, 3, 32, 32]`; all glimpses' means and log-variances, `[n, 256]` each."""
        look = cast(Look, self.backbone.stage("memory"))
        context, inputs, places = look.glimpses(images)
        canvas = torch.zeros_like(images)
        means, log_variances = [], []
        for answer, place in zip(look.answers(context, inputs), places, strict=True):
            mean, log_variance = self.backbone.stage("code")(answer), self.log_variance(answer)
            code = mean + torch.randn_like(mean) * (log_variance / 2).exp()
            canvas = canvas + sample(self.sketch(code), place, _PICTURE, align_corners=True)
            means.append(mean)
            log_variances.append(log_variance)
        return canvas.sigmoid(), torch.cat(means, 1), torch.cat(log_variances, 1)


def untrained_stawm(name: str) -> Backbone:
    """The backbone, drawn with seed 0: pictures of 32 pixels in [0, 1] to 32 means."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        stages = {"memory": Look(), "code": nn.Linear(WIDTH, LATENT)}
    return _backbone(stages, name)


def _backbone(stages: dict[str, nn.Module], name: str) -> Backbone:
    pixels = Preprocessing(size=32, resize=32, mean=(0.0,) * 3, std=(1.0,) * 3)
    return Backbone(stages, name=name, labels=None, preprocessing=pixels)


def train_stawm(
    recipe: Recipe, backbone: Backbone, pictures: Pictures, checkpoint: Path | None = None
) -> dict[str, str]:
    """Train a STAWM that looks by `backbone`; its last epoch's loss an image, as a note.

    On a GPU where there is one. With a `checkpoint`, a file, it goes on where a training that was
    stopped had come to, as if it had not been.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = Drawing(backbone).train().to(device)
    model.to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(model.parameters(), recipe.learning_rate)
    steps = recipe.epochs * -(-len(pictures.pixels) // recipe.batch)
    drops = [round(share * steps) for share in (0.5, 0.9)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, drops)
    training = _Training(recipe, checkpoint, [model, optimiser, schedule])
    while training.epoch < recipe.epochs:
        rng = np.random.default_rng([recipe.seed, training.epoch])
        parts = batches(rng.permutation(len(pictures.pixels)), recipe.batch)
        for rows in parts[training.step :]:
            images = torch.from_numpy(pictures.shares(rows))
            if recipe.mirrored:
                images = torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images.flip(3), images)
            images = images.to(device, memory_format=torch.channels_last)
            step_loss = loss(images, *model(images))
            optimiser.zero_grad()
            step_loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_value_(model.parameters(), _LARGEST_GRADIENT)
            optimiser.step()
            schedule.step()
            training.stepped(step_loss.item(), len(rows), len(parts))
        training.epoch_ended()
    model.cpu()
    return {"loss_per_image": f"{training.last_loss:.3f}"}


class _Training:
    """How far a training has come: said now and then, and kept in a file.

    Attributes:
        epoch, step: what is next.
        last_loss: an image, of the last whole epoch.
    """

    def __init__(self, recipe: Recipe, file: Path | None, parts: Sequence[Any]) -> None:
        self.recipe, self.file, self.parts = recipe, file, parts
        self.epoch = self.step = self.seen = 0
        self.loss = self.last_loss = 0.0
        self.reported = self.saved = time.monotonic()
        if file is not None and file.exists():
            self._load(file)
        self.first, self.began = (self.epoch, self.step), time.monotonic()

    def stepped(self, loss: float, images: int, steps: int) -> None:
        """After each of an epoch's steps."""
        self.step += 1
        self.seen += images
        self.loss += loss
        now = time.monotonic()
        if now - self.reported > _REPORT_EVERY:
            done, first = (e * steps + s for e, s in ((self.epoch, self.step), self.first))
            left = (now - self.began) / (done - first) * (self.recipe.epochs * steps - done)
            self._say(f"step {self.step} of {steps}: loss", f", about {left / 60:.0f} min left")
            self.reported = now
        if now - self.saved > _SAVE_EVERY:
            self._save()

    def epoch_ended(self) -> None:
        """After the last step, and the schedule's."""
        self._say("loss")
        self.last_loss = self.loss / self.seen
        self.epoch += 1
        self.step = self.seen = 0
        self.loss = 0.0
        self._save()

    def _say(self, what: str, more: str = "") -> None:
        epochs, mean = self.recipe.epochs, self.loss / self.seen
        line = f"epoch {self.epoch + 1} of {epochs}, {what} {mean:.2f} an image{more}"
        print(line, file=sys.stderr, flush=True)

    def _save(self) -> None:
        if self.file is None:
            return
        state = {name: getattr(self, name) for name in _KEPT}
        state |= {"recipe": self.recipe.sha256, "random": torch.get_rng_state()}
        state["parts"] = [part.state_dict() for part in self.parts]
        if torch.cuda.is_available():
            state["random_cuda"] = torch.cuda.get_rng_state()
        # Under another name until it is whole: a training may be stopped at any time.
        whole = self.file.with_name(f"{self.file.name}.part")
        torch.save(state, whole)
        whole.replace(self.file)
        self.saved = time.monotonic()

    def _load(self, file: Path) -> None:
        state = torch.load(file, map_location="cpu", weights_only=True)
        if state["recipe"] != self.recipe.sha256:
            raise AttnbenchError(f"{file} is of another recipe: remove it, or name another file")
        for name in _KEPT:
            setattr(self, name, state[name])
        for part, kept in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(kept)
        torch.set_rng_state(state["random"])
        if torch.cuda.is_available() and "random_cuda" in state:
            torch.cuda.set_rng_state(state["random_cuda"])


_KEPT = ("epoch", "step", "seen", "loss", "last_loss")


class Glimpses(nn.Module):
    """Pictures to what the published probe starts from: context and inputs, `[n, 512 + 8 * 256]`."""

    def __init__(self, look: Look) -> None:
        super().__init__()
        self.look = look

    def forward(self, images: Tensor) -> Tensor:
        context, inputs, _ = self.look.glimpses(images)
        return torch.cat([context, *inputs], dim=1)


class PublishedProbe(nn.Module):
    """What the paper trains with labels: a query, the memory's three numbers, a linear read-out.

    133,901 parameters, of what `Glimpses` gives; the beta-VAE's probe has 330.
    """

    def __init__(self, memory: HebbRosenblatt) -> None:
        super().__init__()
        self.memory = copy.deepcopy(memory).requires_grad_(True)
        self.query = nn.Linear(_SEEN, WIDTH)
        self.classes = nn.Linear(WIDTH, 10)

    def forward(self, seen: Tensor) -> Tensor:
        context, *inputs = torch.split(seen, [_SEEN, *[WIDTH] * GLIMPSES], dim=1)
        written: Written = []
        for each in inputs:
            written = self.memory.write(written, each)
        answer = self.memory.read(written, relu6(self.query(context)))
        return cast(Tensor, self.classes(answer))


def published_error(
    backbone: Backbone, pictures: HubSource, data: Path | None, epochs: int = 50
) -> tuple[float, int]:
    """Error of the published probe on the test split, 0 to 1, and its number of parameters.

    Adam, 0.001, a tenth of it from epochs 25, 40 and 45 of 50 on; as glimpses are computed once, no
    augmentation and no drop-out. `pictures` are those the backbone was trained on.
    """
    look = cast(Look, backbone.stage("memory"))
    glimpses = _backbone({"glimpses": Glimpses(look)}, backbone.name)
    (training, labels), (test, truth) = (
        [torch.from_numpy(each) for each in codes(glimpses, source, data)]
        for source in (pictures, testing_split(pictures))
    )
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    probe = PublishedProbe(look.memory)
    optimiser = torch.optim.Adam(probe.parameters(), 1e-3)
    drops = [round(share * epochs) for share in (0.5, 0.8, 0.9)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, drops)
    for _ in range(epochs):
        for rows in batches(rng.permutation(len(labels)), 128):
            error = functional.cross_entropy(probe(training[rows]), labels[rows])
            optimiser.zero_grad()
            error.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        schedule.step()
    with torch.no_grad():
        wrong = (probe(test).argmax(1) != truth).float().mean()
    return float(wrong), sum(each.numel() for each in probe.parameters())


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the errors of the probes of a trained STAWM."""
    parser = argparse.ArgumentParser(description="10-way errors of probes of a STAWM.")
    parser.add_argument("weights", type=Path, help="as the training wrote them; `-` for untrained")
    parser.add_argument("--pictures", choices=sorted(_PICTURES), default="cifar")
    parser.add_argument("--data", type=Path, help="the data folder")
    options = parser.parse_args(arguments)
    backbone = untrained_stawm(options.weights.stem)
    if options.weights != Path("-"):
        backbone.load_state_dict(safetensors.torch.load_file(options.weights))
    memory = _backbone({"memory": backbone.stage("memory")}, backbone.name)
    pictures = _PICTURES[options.pictures]
    for name, (error, parameters) in {
        "linear, the 32 means": probe_error(backbone, pictures, options.data),
        "linear, the memory's answer": probe_error(memory, pictures, options.data),
        "as published": published_error(backbone, pictures, options.data),
    }.items():
        print(f"{name}: error {error:.2%}, {parameters:,} parameters in the probe", flush=True)


if __name__ == "__main__":
    main()
