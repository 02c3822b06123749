"""A race of ways to adapt: contenders that run in turn on the same images, timed in passes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from attnbench.adaptation import balanced_loss, batches, frozen_features
from attnbench.backbones import load
from attnbench.backbones.backbone import Backbone
from attnbench.sandbox.warm_state import synchronise
from attnbench.vocabulary import DeviceKind
from benchmarks.measured import Figure
from benchmarks.rounds import seconds_of

IMAGES_PER_CLASS, TARGET = 64, 3

Adapt = Callable[[Backbone, Tensor, Tensor], nn.Module]


@dataclass(frozen=True)
class Course:
    """What all contenders of a race are given.

    Attributes:
        backbone: to be copied by each of them.
        pos, neg: images `[n, 3, h, w]`.
        losses: the final losses of the contenders so far, by name.
    """

    backbone: Backbone
    pos: Tensor
    neg: Tensor
    losses: dict[str, float]

    @classmethod
    def on(
        cls,
        name: str,
        losses: dict[str, float],
        *,
        device: DeviceKind = "cpu",
        per_class: int = IMAGES_PER_CLASS,
    ) -> Course:
        """Return the course on a backbone.

        Args:
            name: of the backbone. torchvision's have their weights as initialised.
            losses: final losses of contenders that ran before.
            device: where the backbone and the images are.
            per_class: the number of positives, and of negatives.
        """
        backbone = load(name, untrained=name.startswith("torchvision/")).to(device)
        backbone.target = TARGET
        size = backbone.preprocessing.size
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(2, per_class, 3, size, size, generator=generator)
        # Positives are a little brighter at the top left, so that there is something to learn.
        images[0, :, :, : size // 2, : size // 2] += 0.3
        return cls(backbone, images[0].to(device), images[1].to(device), dict(losses))

    def seconds_of(self, function: Callable[[], object]) -> float:
        """Return how long a call takes until the device has finished its work, in seconds."""

        def finish() -> None:
            function()
            synchronise(self.pos.device)

        synchronise(self.pos.device)
        return seconds_of(finish)


@dataclass(frozen=True)
class Contender:
    """A way to adapt.

    Attributes:
        name: its row in the table.
        adapt: returns a detector.
        aim: an upper limit in passes, or None. See `figures_of` for the pass that is meant.
        once: whether it is so slow that it runs in one round only.
    """

    name: str
    adapt: Adapt
    aim: float | None = None
    once: bool = False


Race = Callable[[Course], list[Contender]]


@dataclass
class Times:
    """The times and the loss of a contender.

    Attributes:
        aim: an upper limit in passes, or None.
        seconds: one per round.
        loss: at the end of an adaptation.
    """

    aim: float | None = None
    seconds: list[float] = field(default_factory=list)
    loss: float = math.nan


PASS, BEST_PASS, IN_FLOAT32 = "a pass", "the best pass in float32", ", float32"


def run(race: Race, backbone: str, rounds: int, losses: dict[str, float]) -> dict[str, Times]:
    """Run all contenders in turn.

    Args:
        race: returns the contenders.
        backbone: the name of the backbone.
        rounds: the number of rounds.
        losses: final losses of contenders that ran in another process.
    """
    course = Course.on(backbone, losses)
    times = {PASS: Times(), BEST_PASS: Times()}
    for _ in range(rounds):
        times[PASS].seconds.append(course.seconds_of(lambda: run_pass(course)))
        times[BEST_PASS].seconds.append(course.seconds_of(lambda: run_best_pass(course)))
        for contender in race(course):
            if contender.once and contender.name in course.losses:
                continue
            entry = times.setdefault(contender.name, Times(contender.aim))
            measure(entry, contender, course)
            course.losses[contender.name] = entry.loss
    return times


def measure(times: Times, contender: Contender, course: Course) -> None:
    """Run a contender once, and add its seconds, and at first its loss, to its times."""
    backbone = copy.deepcopy(course.backbone)
    torch.manual_seed(0)
    returned: list[nn.Module] = []
    adapt = contender.adapt
    times.seconds.append(
        course.seconds_of(lambda: returned.append(adapt(backbone, course.pos, course.neg)))
    )
    (detector,) = returned
    if math.isnan(times.loss):  # It is the same in every round.
        times.loss = loss_of(detector, course)


def figures_of(times: dict[str, Times], column: str) -> list[Figure]:
    """Return the passes and the loss of each contender.

    Times of contenders whose names end in `IN_FLOAT32` are multiples of the best pass in float32,
    all others of the pass.
    """
    figures = [Figure(row=PASS, column=column, unit="s", values=times[PASS].seconds)]
    for name, entry in times.items():
        if name == PASS:
            continue
        pass_seconds = times[BEST_PASS if name.endswith(IN_FLOAT32) else PASS].seconds
        # Contenders that run only once have fewer rounds than the pass.
        passes = [
            seconds / unit for seconds, unit in zip(entry.seconds, pass_seconds, strict=False)
        ]
        figures.append(Figure(row=name, column=column, values=passes, aim=entry.aim))
        if not math.isnan(entry.loss):
            figures.append(Figure(row=name, column="loss", unit="nats", values=[entry.loss]))
    return figures


@torch.no_grad()
def run_pass(course: Course) -> None:
    """Run a pass as the evaluator does: the backbone as it was handed out, PyTorch's defaults."""
    for images in (course.pos, course.neg):
        for rows in batches(images):
            course.backbone(images[rows])


def run_best_pass(course: Course) -> None:
    """Run the fastest known pass in float32: channels-last, last layers on all images at once."""
    for images in (course.pos, course.neg):
        frozen_features(course.backbone.upto(course.backbone.stages[-1]), images)


@torch.no_grad()
def loss_of(detector: nn.Module, course: Course) -> float:
    """Return the class-balanced loss of a detector on the images it was adapted to."""
    scores = [
        torch.cat([detector(images[rows]) for rows in batches(images)])
        for images in (course.pos, course.neg)
    ]
    return balanced_loss(*scores).item()
