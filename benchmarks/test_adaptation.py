"""How long shipped methods take to adapt, in passes, compared with plain loops and other libraries.

    python -m benchmarks run benchmarks/test_adaptation.py --backbone torchvision/vgg16

The contenders of a race run in turn, round by round, on the same images, in a process of their own.
Their times are multiples of the time of a pass in the same round. torchvision's networks are used
without trained weights: times do not depend on them, and losses are compared only within a race.
"""

from __future__ import annotations

import importlib.util
import re

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from attnbench.adaptation.detectors import LogOdds
from attnbench.backbones.backbone import Backbone
from attnbench.judge.template import MALLOC_TUNABLES
from benchmarks.conftest import Keep
from benchmarks.contenders import (
    BATCH_SIZE,
    EPOCHS,
    attended_stage,
    plain_attention,
    plain_last_layer,
    shipped,
)
from benchmarks.measured import Figure
from benchmarks.race import TARGET, Contender, Course, Race, figures_of, run
from benchmarks.rounds import in_process, in_rounds

# For VGG-16: upper limits in passes for bfloat16, and in the best passes in float32 for float32.
AIMED_AT = "torchvision/vgg16"
AIMS = {
    "attention": (0.5, 1.2),
    "last_layer": (0.45, 1.1),
    "linear_probe": (0.4, 1.05),
    "ridge_probe": (0.4, 1.05),
    "prototype": (0.35, 1.02),
}

# Settings of the C library's memory allocator: those of attnbench's workers, and its defaults.
MEMORY = {"as in a worker": MALLOC_TUNABLES, "with PyTorch's defaults": ""}


def published_in_keras(backbone: Backbone, pos: Tensor, neg: Tensor) -> nn.Module:
    """Run the same loop in Keras. Building the network, about a second, is included."""
    from benchmarks.published_in_keras import KerasAttention

    after, _ = attended_stage(backbone, pos)
    network = KerasAttention(backbone, after, TARGET)
    gains = network.fit(pos, neg, learning_rate=0.03, epochs=EPOCHS, batch_size=BATCH_SIZE)
    with_gains = nn.Sequential(backbone.upto(after), gains, backbone.after(after))
    return nn.Sequential(with_gains, LogOdds(TARGET))


def plain_probe(backbone: Backbone, pos: Tensor, neg: Tensor) -> nn.Module:
    """Use scikit-learn on features from batches of 16 images, with PyTorch's defaults."""
    encoder = backbone.upto(backbone.stages[-2])
    with torch.no_grad():
        features = torch.cat(
            [encoder(batch).flatten(1) for batch in torch.cat([pos, neg]).split(BATCH_SIZE)]
        )
    labels = [1] * len(pos) + [0] * len(neg)
    regression = LogisticRegression(max_iter=1000).fit(features.numpy(), labels)
    linear = nn.Linear(features.shape[1], 1)
    linear.weight.data = torch.from_numpy(regression.coef_).float()
    linear.bias.data = torch.from_numpy(regression.intercept_).float()
    return nn.Sequential(encoder, nn.Flatten(), linear, nn.Flatten(0))


def in_each_precision(name: str, course: Course) -> list[Contender]:
    """Return a shipped submission in bfloat16, if the processor has units for it, and in float32.

    Args:
        name: of the submission.
        course: what it is given.
    """
    aims = AIMS.get(name, (None, None)) if course.backbone.name == AIMED_AT else (None, None)

    contenders = [
        Contender(f"`{name}`, {precision}", shipped(name, precision=precision), aim)
        for precision, aim in zip(("bfloat16", "float32"), aims, strict=True)
    ]
    return contenders if has_units_for_bfloat16() else contenders[1:]


def has_units_for_bfloat16() -> bool:
    """Return whether the processor multiplies matrices in bfloat16; False where torch cannot say."""
    # Older versions of torch have no such function.
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16"))


# Races. The names of these functions are part of the names of tables.


def attention(course: Course) -> list[Contender]:
    """Race with the plain loop, and with peft's (IA)³ on the next layer."""
    rest = course.backbone.after(attended_stage(course.backbone, course.pos)[0])
    next_layer = next(module for module in rest.modules() if isinstance(module, nn.Conv2d))
    layer_name = next(
        name for name, module in course.backbone.named_modules() if module is next_layer
    )

    ia3 = shipped("ia3", layers=re.escape(layer_name), epochs=EPOCHS)
    contenders = [
        Contender("plain loop", plain_attention, once=True),
        *in_each_precision("attention", course),
        Contender("(IA)³ of `peft` on the layer behind, trained by `fit_adam`", ia3, once=True),
    ]
    if importlib.util.find_spec("tensorflow"):
        contenders.append(Contender("Keras, as published", published_in_keras, once=True))
    return contenders


def last_layer(course: Course) -> list[Contender]:
    return [
        Contender("plain loop", plain_last_layer, once=True),
        *in_each_precision("last_layer", course),
    ]


def read_outs(course: Course) -> list[Contender]:
    names = ("linear_probe", "ridge_probe", "lda", "prototype")
    return [
        Contender("scikit-learn's logistic regression on features", plain_probe),
        *(contender for name in names for contender in in_each_precision(name, course)),
    ]


def whole_network(course: Course) -> list[Contender]:
    names = ("feature_gain", "film", "bitfit", "adapter", "full_finetune")
    return [Contender(f"`{name}`", shipped(name), once=True) for name in names]


@pytest.mark.parametrize(
    "race",
    [
        attention,
        pytest.param(read_outs, marks=pytest.mark.slow),
        pytest.param(last_layer, marks=pytest.mark.slow),
        pytest.param(whole_network, marks=pytest.mark.slow),
    ],
)
def test_race(
    benchmark: BenchmarkFixture, keep: Keep, pytestconfig: pytest.Config, race: Race
) -> None:
    backbone = pytestconfig.getoption("--backbone")
    rounds = 1 if benchmark.disabled else pytestconfig.getoption("--rounds")

    def measure() -> list[Figure]:
        figures: list[Figure] = []
        losses: dict[str, float] = {}
        for column, tunables in MEMORY.items():
            times = in_process(tunables, run, race, backbone, rounds, losses)
            figures += figures_of(times, column)
            losses |= {name: entry.loss for name, entry in times.items()}
        return figures

    (figures,) = in_rounds(benchmark, measure, 1, warm_up=False)
    keep(f"{race.__name__} on {backbone}{_processor_suffix()}", *figures)


def _processor_suffix() -> str:
    """Return a suffix for tables of processors without bfloat16, which compute something else."""
    return "" if has_units_for_bfloat16() else ", without bfloat16"
