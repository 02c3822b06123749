"""How long shipped methods take to adapt: in passes, beside plain loops and peers, in one run.

    tox -e benchmarks -- benchmarks/test_adaptation.py --backbone torchvision/vgg16 \
        --rounds 1 --benchmark-json vgg16.json
    python benchmarks/report.py vgg16.json

All contenders of a test run in turn, round by round, on the same images; what they took, as multiples
of the pass of the same round, and the loss where they ended are in `extra_info`. torchvision's networks
are taken without weights: times do not depend on them, and losses are compared within a test only.
"""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn.functional import softplus

from attnbench.adaptation import (
    Gains,
    balanced_loss,
    batches,
    middle_stage,
    stages_with_maps,
    width,
)
from attnbench.adaptation.detectors import LogOdds
from attnbench.backbones import load
from attnbench.backbones.backbone import Backbone
from attnbench.submission import load_submission
from tests.submissions.adapted import module_of

IMAGES_PER_SIDE, TARGET = 64, 3
EPOCHS, IMAGES_A_STEP = 10, 16

Adapt = Callable[[Backbone, Tensor, Tensor], nn.Module]


@dataclass(frozen=True)
class Course:
    """What all contenders of a test get."""

    backbone: Backbone
    pos: Tensor
    neg: Tensor
    rounds: int


@pytest.fixture(scope="module")
def course(request: pytest.FixtureRequest) -> Course:
    name = request.config.getoption("--backbone")
    backbone = load(name, untrained=name.startswith("torchvision/"))
    backbone.target = TARGET
    size = backbone.preprocessing.size
    images = torch.randn(
        2, IMAGES_PER_SIDE, 3, size, size, generator=torch.Generator().manual_seed(0)
    )
    # Positives are a little brighter at the top left: there is something to learn.
    images[0, :, :, : size // 2, : size // 2] += 0.3
    return Course(backbone, images[0], images[1], request.config.getoption("--rounds"))


class Race:
    """Contenders in turn, round by round.

    Attributes:
        losses: where each ended in the last round.
    """

    def __init__(self, course: Course) -> None:
        self.course = course
        self.losses: dict[str, float] = {}

    def run(self, benchmark: BenchmarkFixture, contenders: dict[str, Adapt]) -> None:
        course = self.course
        passes: dict[str, list[float]] = {name: [] for name in contenders}
        pass_seconds: list[float] = []

        def one_round() -> None:
            pass_seconds.append(seconds_of(lambda: one_pass(course)))
            for name, adapt in contenders.items():
                backbone = copy.deepcopy(course.backbone)
                torch.manual_seed(0)
                started = time.perf_counter()
                detector = adapt(backbone, course.pos, course.neg)
                passes[name].append((time.perf_counter() - started) / pass_seconds[-1])
                self.losses[name] = loss_of(detector, course)
                print(f"{name}: {passes[name][-1]:.2f} passes, loss {self.losses[name]:.3f}")

        benchmark.pedantic(one_round, rounds=course.rounds, iterations=1)
        benchmark.extra_info.update(
            backbone=course.backbone.name,
            pass_seconds=pass_seconds,
            passes=passes,
            losses=self.losses,
        )


def seconds_of(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


@torch.no_grad()
def one_pass(course: Course) -> None:
    """The evaluator's: the backbone as it is handed out, PyTorch's defaults."""
    for side in (course.pos, course.neg):
        for rows in batches(side):
            course.backbone(side[rows])


@torch.no_grad()
def loss_of(detector: nn.Module, course: Course) -> float:
    scores = [
        torch.cat([detector(side[rows]) for rows in batches(side)])
        for side in (course.pos, course.neg)
    ]
    return balanced_loss(*scores).item()


def shipped(name: str, **other: object) -> Adapt:
    """A shipped submission, with its own hyperparameters but for `other`."""
    submission, module = load_submission(name), module_of(name)

    def adapt(backbone: Backbone, pos: Tensor, neg: Tensor) -> nn.Module:
        settings = submission.hyperparameters_for(backbone.name) | other
        found: nn.Module = module.adapt(backbone, pos, neg, **settings)
        return found

    return adapt


# Plain loops: the whole network at each step, Adam, 16 images, 10 epochs.


def train(detector: nn.Module, pos: Tensor, neg: Tensor, learning_rate: float) -> nn.Module:
    learned = [each for each in detector.parameters() if each.requires_grad]
    optimiser = torch.optim.Adam(learned, learning_rate)
    images = torch.cat([pos, neg])
    signs = torch.cat([torch.ones(len(pos)), -torch.ones(len(neg))])
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(images)).split(IMAGES_A_STEP):
            optimiser.zero_grad()
            loss = softplus(-signs[rows] * detector(images[rows])).mean()
            torch.autograd.backward(loss)
            optimiser.step()
    return detector


def attended(backbone: Backbone, pos: Tensor) -> tuple[str, int]:
    """The stage that `attention` puts its layer behind, and how many maps that has."""
    shapes = stages_with_maps(backbone, pos[:1])
    after = load_submission("attention").hyperparameters_for(backbone.name)["after"]
    after = str(after) or middle_stage(backbone, shapes)
    return after, width(shapes[after])


def plain_attention(backbone: Backbone, pos: Tensor, neg: Tensor) -> nn.Module:
    after, maps = attended(backbone, pos)
    gains = Gains(torch.ones(maps))
    network = nn.Sequential(backbone.upto(after), gains, backbone.after(after))
    return train(nn.Sequential(network, LogOdds(TARGET)), pos, neg, learning_rate=0.03)


def published_in_keras(backbone: Backbone, pos: Tensor, neg: Tensor) -> nn.Module:
    """The same loop in Keras; building the network there is charged too, and takes about a second."""
    from benchmarks.published_in_keras import Adapted

    after, _ = attended(backbone, pos)
    adapted = Adapted(backbone, after, TARGET)
    gains = adapted.fit(pos, neg, learning_rate=0.03, epochs=EPOCHS, step=IMAGES_A_STEP)
    network = nn.Sequential(backbone.upto(after), gains, backbone.after(after))
    return nn.Sequential(network, LogOdds(TARGET))


def plain_last_layer(backbone: Backbone, pos: Tensor, neg: Tensor) -> nn.Module:
    backbone.stage(backbone.stages[-1]).requires_grad_(True)
    return train(nn.Sequential(backbone, LogOdds(TARGET)), pos, neg, learning_rate=3e-4)


def plain_probe(backbone: Backbone, pos: Tensor, neg: Tensor) -> nn.Module:
    """scikit-learn on features extracted as one does: 16 images at a time, PyTorch's defaults."""
    before = backbone.upto(backbone.stages[-2])
    with torch.no_grad():
        features = torch.cat(
            [before(some).flatten(1) for some in torch.cat([pos, neg]).split(IMAGES_A_STEP)]
        )
    present = [1] * len(pos) + [0] * len(neg)
    fitted = LogisticRegression(max_iter=1000).fit(features.numpy(), present)
    linear = nn.Linear(features.shape[1], 1)
    linear.weight.data = torch.from_numpy(fitted.coef_).float()
    linear.bias.data = torch.from_numpy(fitted.intercept_).float()
    return nn.Sequential(before, nn.Flatten(), linear, nn.Flatten(0))


# The races.


def test_attention(benchmark: BenchmarkFixture, course: Course) -> None:
    """To the loss at which the plain loop ends; beside peft's (IA)³ on the layer behind."""
    pytest.importorskip("peft")
    race = Race(course)
    behind = course.backbone.after(attended(course.backbone, course.pos)[0])
    first = next(each for each in behind.modules() if isinstance(each, nn.Conv2d))
    name = next(name for name, each in course.backbone.named_modules() if each is first)

    def to_the_same_loss(backbone: Backbone, pos: Tensor, neg: Tensor) -> nn.Module:
        enough = 1.02 * race.losses["plain loop"]
        return shipped("attention", enough=enough, steps=20)(backbone, pos, neg)

    race.run(
        benchmark,
        {
            "plain loop": plain_attention,
            "attention": to_the_same_loss,
            "(IA)³ of peft, fit": shipped("ia3", layers=re.escape(name), epochs=EPOCHS),
        },
    )


def test_attention_in_keras(benchmark: BenchmarkFixture, course: Course) -> None:
    """The published procedure, to be set beside the plain loop of `test_attention` in passes."""
    pytest.importorskip("tensorflow", reason="needs pip install -e '.[keras]'")
    Race(course).run(benchmark, {"Keras, as published": published_in_keras})


def test_last_layer(benchmark: BenchmarkFixture, course: Course) -> None:
    contenders = {"plain loop": plain_last_layer, "last_layer": shipped("last_layer")}
    Race(course).run(benchmark, contenders)


def test_read_outs(benchmark: BenchmarkFixture, course: Course) -> None:
    contenders = {"scikit-learn on features": plain_probe}
    for name in ("linear_probe", "ridge_probe", "lda", "prototype"):
        contenders[name] = shipped(name)
    Race(course).run(benchmark, contenders)


@pytest.mark.parametrize("name", ["feature_gain", "film", "bitfit", "adapter", "full_finetune"])
def test_the_whole_network_trained(benchmark: BenchmarkFixture, course: Course, name: str) -> None:
    Race(course).run(benchmark, {name: shipped(name)})
