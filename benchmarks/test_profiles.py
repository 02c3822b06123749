"""Where the time of each shipped method goes.

python -m benchmarks run benchmarks/test_profiles.py --backbone torchvision/squeezenet1_1

Shares of one adaptation by functions of `attnbench.adaptation`, from Python's own profiler. What a
function calls counts as its own.
"""

from __future__ import annotations

import copy
import cProfile
import pstats
import time

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from attnbench import NotApplicable
from attnbench.adaptation import features, fit, gauss_newton, solve
from attnbench.backbones import load
from attnbench.backbones.backbone import Backbone
from attnbench.resources import submissions_folder
from attnbench.submission import MANIFEST, load_submission
from benchmarks.conftest import Keep
from benchmarks.measured import Figure
from benchmarks.rounds import in_rounds
from tests.submissions.adapted import images, module_of

SUBMISSIONS = sorted(path.parent.name for path in submissions_folder().glob(f"*/{MANIFEST}"))
QUICK = ("attention", "linear_probe")
IMAGES_PER_SIDE = 24

PARTS = {
    "frozen part": features._until_little_is_left,
    "`gauss_newton`": gauss_newton,
    "`solve`": solve,
    "`fit`": fit,
}


def profile(name: str, backbone: Backbone) -> tuple[float, dict[str, float]]:
    """Seconds of one adaptation, and the share of each part."""
    settings = load_submission(name).hyperparameters_for(backbone.name)
    network = copy.deepcopy(backbone)
    pos, neg = images(backbone, IMAGES_PER_SIDE)
    torch.manual_seed(0)
    profiler = cProfile.Profile()
    started = time.perf_counter()
    profiler.runcall(module_of(name).adapt, network, pos, neg, **settings)
    seconds = time.perf_counter() - started
    spent = {
        (file, function): cumulative
        for (file, _, function), (_, _, _, cumulative, _) in pstats.Stats(profiler).stats.items()  # type: ignore[attr-defined]
    }
    shares = {
        part: spent.get((function.__code__.co_filename, function.__name__), 0.0) / seconds
        for part, function in PARTS.items()
    }
    return seconds, shares


@pytest.mark.parametrize(
    "name",
    [each if each in QUICK else pytest.param(each, marks=pytest.mark.slow) for each in SUBMISSIONS],
)
def test_profile(
    benchmark: BenchmarkFixture, keep: Keep, pytestconfig: pytest.Config, name: str
) -> None:
    network = pytestconfig.getoption("--backbone")
    backbone = load(network, untrained=network.startswith("torchvision/"))
    backbone.target = 3
    try:
        ((seconds, shares),) = in_rounds(benchmark, lambda: profile(name, backbone), 1)
    except NotApplicable as reason:
        pytest.skip(str(reason))
    shares |= {"else": max(0.0, 1 - sum(shares.values()))}
    keep(
        f"profiles on {network}",
        Figure(row=f"`{name}`", column="takes", unit="s", values=[seconds]),
        *(
            Figure(row=f"`{name}`", column=part, unit="%", values=[share])
            for part, share in shares.items()
            if share >= 0.005
        ),
    )
