"""Profiles of the shipped methods: which functions the time of an adaptation is spent in.

python -m benchmarks run benchmarks/test_profiles.py --backbone torchvision/squeezenet1_1

The figures are fractions of one adaptation in functions of `attnbench.adaptation`, measured by
Python's own profiler. The time of a function includes that of the functions it calls.
"""

from __future__ import annotations

import copy
import cProfile
import inspect
import pstats
import time

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from attnbench import NotApplicable
from attnbench.adaptation import fit_adam, fit_gauss_newton, fit_lbfgs, frozen_features
from attnbench.backbones import load
from attnbench.backbones.backbone import Backbone
from attnbench.resources import submissions_folder
from attnbench.submission import MANIFEST, load_submission
from benchmarks.conftest import Keep
from benchmarks.measured import Figure
from benchmarks.rounds import in_rounds
from tests.submissions.adapted import load_program, noise_images

SUBMISSIONS = sorted(path.parent.name for path in submissions_folder().glob(f"*/{MANIFEST}"))
FAST = ("attention", "linear_probe")
IMAGES_PER_CLASS = 24

PARTS = {
    # The profiler sees the function inside the decorator.
    "frozen part": inspect.unwrap(frozen_features),
    "`fit_gauss_newton`": fit_gauss_newton,
    "`fit_lbfgs`": fit_lbfgs,
    "`fit_adam`": fit_adam,
}


def profile(name: str, backbone: Backbone) -> tuple[float, dict[str, float]]:
    """Return the seconds of one adaptation, and the fraction spent in each part."""
    hyperparameters = load_submission(name).hyperparameters_for(backbone.name)
    network = copy.deepcopy(backbone)
    pos, neg = noise_images(backbone, IMAGES_PER_CLASS)
    torch.manual_seed(0)
    profiler = cProfile.Profile()
    started = time.perf_counter()
    profiler.runcall(load_program(name).adapt, network, pos, neg, **hyperparameters)
    seconds = time.perf_counter() - started
    cumulative_seconds = {
        (file, function): cumulative
        for (file, _, function), (_, _, _, cumulative, _) in pstats.Stats(profiler).stats.items()  # type: ignore[attr-defined]
    }
    fractions = {
        part: cumulative_seconds.get((function.__code__.co_filename, function.__name__), 0.0)
        / seconds
        for part, function in PARTS.items()
    }
    return seconds, fractions


@pytest.mark.parametrize(
    "name",
    [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in SUBMISSIONS],
)
def test_profile(
    benchmark: BenchmarkFixture, keep: Keep, pytestconfig: pytest.Config, name: str
) -> None:
    network = pytestconfig.getoption("--backbone")
    backbone = load(network, untrained=network.startswith("torchvision/"))
    backbone.target = 3
    try:
        ((seconds, fractions),) = in_rounds(benchmark, lambda: profile(name, backbone), 1)
    except NotApplicable as reason:
        pytest.skip(str(reason))
    fractions |= {"else": max(0.0, 1 - sum(fractions.values()))}
    keep(
        f"profiles on {network}",
        Figure(row=f"`{name}`", column="takes", unit="s", values=[seconds]),
        *(
            Figure(row=f"`{name}`", column=part, unit="%", values=[fraction])
            for part, fraction in fractions.items()
            if fraction >= 0.005
        ),
    )
