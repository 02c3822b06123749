"""How long shipped methods take to adapt: in passes, beside plain loops and peers, in one run.

    python -m benchmarks run benchmarks/test_adaptation.py --backbone torchvision/vgg16

The contenders of a race run in turn, round by round, on the same images, in a process of their own;
what they took stands as multiples of the pass of the same round. torchvision's networks are taken
without weights: times do not depend on them, and losses are compared within a race only.
"""

from __future__ import annotations

import copy
import importlib.util
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

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
    frozen_outputs,
    middle_stage,
    stages_with_maps,
    width,
)
from attnbench.adaptation.bfloat16 import multiplies_bfloat16, pays_in_bfloat16
from attnbench.adaptation.detectors import LogOdds
from attnbench.backbones import load
from attnbench.backbones.backbone import Backbone
from attnbench.judge.template import MALLOC
from attnbench.submission import load_submission
from benchmarks.conftest import Keep
from benchmarks.measured import Figure
from benchmarks.rounds import in_a_process, in_rounds, seconds_of
from benchmarks.studies.quick_against_plain import bfloat16
from tests.submissions.adapted import module_of

IMAGES_PER_SIDE, TARGET = 64, 3
EPOCHS, IMAGES_A_STEP = 10, 16

# On VGG-16: in passes, and where no processor's bfloat16 helps in the best passes in float32.
AIMED_AT = "torchvision/vgg16"
AIMS = {
    "attention": (0.5, 1.2),
    "last_layer": (0.45, 1.1),
    "linear_probe": (0.4, 1.05),
    "ridge_probe": (0.4, 1.05),
    "prototype": (0.35, 1.02),
}

# The C library's ways with memory: as in any process, and as in attnbench's workers.
MEMORY = {"as in a worker": MALLOC, "as PyTorch comes": ""}

Adapt = Callable[[Backbone, Tensor, Tensor], nn.Module]


@dataclass(frozen=True)
class Course:
    """What all contenders of a race get.

    Attributes:
        losses: where those that ran before ended.
    """

    backbone: Backbone
    pos: Tensor
    neg: Tensor
    losses: dict[str, float]

    @classmethod
    def on(cls, name: str, losses: dict[str, float]) -> Course:
        backbone = load(name, untrained=name.startswith("torchvision/"))
        backbone.target = TARGET
        size = backbone.preprocessing.size
        images = torch.randn(
            2, IMAGES_PER_SIDE, 3, size, size, generator=torch.Generator().manual_seed(0)
        )
        # Positives are a little brighter at the top left: there is something to learn.
        images[0, :, :, : size // 2, : size // 2] += 0.3
        return cls(backbone, images[0], images[1], dict(losses))


@dataclass(frozen=True)
class Contender:
    """One way to adapt.

    Attributes:
        aims: its name in `AIMS`; empty if it has none.
        once: whether it is so slow that one round must do.
    """

    name: str
    adapt: Adapt
    aims: str = ""
    once: bool = False


Race = Callable[[Course], list[Contender]]


@dataclass
class Times:
    """Seconds, one a round, the loss at the end, and the aim in passes if there is one."""

    aim: float | None = None
    seconds: list[float] = field(default_factory=list)
    loss: float = math.nan


PASS, BEST_PASS, IN_FLOAT32 = "a pass", "the best pass in float32", ", float32 only"


def run(race: Race, backbone: str, rounds: int, losses: dict[str, float]) -> dict[str, Times]:
    """All contenders in turn; where aims are set, those that have one in float32 only, too.

    Args:
        losses: of those that ran before, in another process.
    """
    course = Course.on(backbone, losses)
    times = {PASS: Times(), BEST_PASS: Times()}
    for _ in range(rounds):
        times[PASS].seconds.append(seconds_of(lambda: one_pass(course)))
        times[BEST_PASS].seconds.append(seconds_of(lambda: best_pass(course)))
        for each in race(course):
            if each.once and each.name in course.losses:
                continue
            aims = AIMS.get(each.aims) if backbone == AIMED_AT else None
            aim, aim_in_float32 = aims or (None, None)
            if aims is None or pays_in_bfloat16(course.backbone, course.pos.device):
                own = times.setdefault(each.name, Times(aim))
                _measure(own, each, course)
                course.losses[each.name] = own.loss
            if aims is not None:
                with bfloat16(False):
                    own = times.setdefault(each.name + IN_FLOAT32, Times(aim_in_float32))
                    _measure(own, each, course)
    return times


def _measure(times: Times, contender: Contender, course: Course) -> None:
    backbone = copy.deepcopy(course.backbone)
    torch.manual_seed(0)
    started = time.perf_counter()
    detector = contender.adapt(backbone, course.pos, course.neg)
    times.seconds.append(time.perf_counter() - started)
    if math.isnan(times.loss):  # the same in every round
        times.loss = loss_of(detector, course)


def figures_of(times: dict[str, Times], column: str) -> list[Figure]:
    """Each contender's passes and loss; in float32 only as multiples of the best pass there."""
    figures = [Figure(row=PASS, column=column, unit="s", values=times[PASS].seconds)]
    for name, took in times.items():
        if name == PASS:
            continue
        unit = times[BEST_PASS if name.endswith(IN_FLOAT32) else PASS].seconds
        passes = [one / whole for one, whole in zip(took.seconds, unit, strict=False)]
        figures.append(Figure(row=name, column=column, values=passes, aim=took.aim))
        if not math.isnan(took.loss):
            figures.append(Figure(row=name, column="loss", unit="nats", values=[took.loss]))
    return figures


@torch.no_grad()
def one_pass(course: Course) -> None:
    """The evaluator's: the backbone as it is handed out, PyTorch's defaults."""
    for side in (course.pos, course.neg):
        for rows in batches(side):
            course.backbone(side[rows])


def best_pass(course: Course) -> None:
    """The quickest we know of in float32: channels-last, large last layers on all images at once."""
    for side in (course.pos, course.neg):
        frozen_outputs(course.backbone.upto(course.backbone.stages[-1]), side)


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


def attention(course: Course) -> list[Contender]:
    """To the loss at which the plain loop ends; beside peft's (IA)³ on the layer behind."""
    behind = course.backbone.after(attended(course.backbone, course.pos)[0])
    first = next(each for each in behind.modules() if isinstance(each, nn.Conv2d))
    layer = next(name for name, each in course.backbone.named_modules() if each is first)

    def to_the_same_loss(backbone: Backbone, pos: Tensor, neg: Tensor) -> nn.Module:
        enough = 1.02 * course.losses["plain loop"]
        return shipped("attention", enough=enough, steps=20)(backbone, pos, neg)

    ia3 = shipped("ia3", layers=re.escape(layer), epochs=EPOCHS)
    contenders = [
        Contender("plain loop", plain_attention, once=True),
        Contender("`attention`", to_the_same_loss, aims="attention"),
        Contender("(IA)³ of `peft` on the layer behind, trained by `fit`", ia3, once=True),
    ]
    if importlib.util.find_spec("tensorflow"):
        contenders.append(Contender("Keras, as published", published_in_keras, once=True))
    return contenders


def last_layer(course: Course) -> list[Contender]:
    return [
        Contender("plain loop", plain_last_layer, once=True),
        Contender("`last_layer`", shipped("last_layer"), aims="last_layer"),
    ]


def read_outs(course: Course) -> list[Contender]:
    names = ("linear_probe", "ridge_probe", "lda", "prototype")
    return [
        Contender("scikit-learn's logistic regression on features", plain_probe),
        *(
            Contender(f"`{name}`", shipped(name), aims=name if name in AIMS else "")
            for name in names
        ),
    ]


def whole_network(course: Course) -> list[Contender]:
    names = ("feature_gain", "film", "bitfit", "adapter", "full_finetune")
    return [Contender(f"`{name}`", shipped(name), once=True) for name in names]


@pytest.mark.parametrize(
    "race",
    [
        attention,
        read_outs,
        pytest.param(last_layer, marks=pytest.mark.slow),
        pytest.param(whole_network, marks=pytest.mark.slow),
    ],
)
def test_race(
    benchmark: BenchmarkFixture, keep: Keep, pytestconfig: pytest.Config, race: Race
) -> None:
    backbone = pytestconfig.getoption("--backbone")
    rounds = 1 if benchmark.disabled else pytestconfig.getoption("--rounds")

    def both() -> list[Figure]:
        figures: list[Figure] = []
        losses: dict[str, float] = {}
        for column, malloc in MEMORY.items():
            times = in_a_process(malloc, run, race, backbone, rounds, losses)
            figures += figures_of(times, column)
            losses |= {name: each.loss for name, each in times.items()}
        return figures

    (figures,) = in_rounds(benchmark, both, 1, warm_up=False)
    keep(f"{race.__name__} on {backbone}{_kind_of_processor()}", *figures)


def _kind_of_processor() -> str:
    """What tells tables of processors apart whose figures are not about the same computation."""
    return "" if multiplies_bfloat16(torch.device("cpu")) else ", without bfloat16"
