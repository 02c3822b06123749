"""(a) Does every method run on the device, with the same d_a as on the CPU?

Each method adapts to the same images with the same seed on both. Only random numbers that it draws on
the device differ. By how much these may change d_a is seen on the CPU, with other seeds.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import statistics

import numpy as np

from attnbench.commands.in_process import InProcessOutcome, adapt_in_process
from attnbench.commands.open_episode import episode
from attnbench.commands.try_out import import_adapt
from attnbench.errors import AttnbenchError, NotApplicable
from attnbench.records.record import EpisodeResult
from attnbench.resources import submissions_folder
from attnbench.stimuli.episode import Episode
from attnbench.submission import Submission, load_submission
from attnbench.vocabulary import TRIED_TASK
from benchmarks.gpu import judging
from benchmarks.gpu.part import Measured, Part, Sizes
from benchmarks.measured import Figure

# In order of value. All others follow in alphabetical order.
FIRST = (
    "attention",
    "bias_only",
    "last_layer",
    "linear_probe",
    "full_finetune",
    "lora",
    "adapter",
    "ridge_probe",
    "prototype",
)
# A method is run on the first of these that it applies to.
BACKBONES = ("shipped/figures-vgg", "shipped/figures-vit", "shipped/figures-resnet")
# The least difference in d_a that counts. Devices round differently, also where nothing is random.
TOLERANCE = 0.05

JUDGED = ", by the judge"


def method_names(most: int | None) -> list[str]:
    """Return the names of shipped submissions, at most `most`, the most important first."""
    shipped = {path.parent.name for path in submissions_folder().glob("*/submission.toml")}
    return [*FIRST, *sorted(shipped - {*FIRST})][:most]


def _items(sizes: Sizes) -> list[str]:
    names = method_names(sizes.methods)
    by_judge = [name + JUDGED for name in names]
    return [by_judge[0], *names, *(by_judge[1:] if sizes.device == "cuda" else [])]


def _measure(item: str, sizes: Sizes, seconds: float) -> Measured:
    submission = load_submission(item.removesuffix(JUDGED))
    reasons = []
    for backbone in BACKBONES:
        try:
            on_cpu = _outcome(submission, backbone, 0, 0, "cpu")
        except NotApplicable as refusal:
            reasons.append(f"{backbone}: {refusal}")
            continue
        compare = _judged if item.endswith(JUDGED) else _compared
        measured = compare(item, submission, backbone, on_cpu, sizes)
        if backbone == BACKBONES[0]:
            return measured
        remark = f"{item}: on {backbone}, to which it applies."
        return Measured(measured.figures, (*measured.remarks, remark))
    raise AttnbenchError(f"it applies to none of the backbones: {'; '.join(reasons)}")


def _compared(
    item: str, submission: Submission, backbone: str, first: InProcessOutcome, sizes: Sizes
) -> Measured:
    """Compare a method in this process on both devices.

    Args:
        item: the row.
        submission: the method.
        backbone: the backbone's name.
        first: its outcome on the CPU for the first target and seed.
        sizes: how many targets and seeds there are.
    """
    targets = range(sizes.targets)
    on_device = [_outcome(submission, backbone, target, 0, sizes.device) for target in targets]
    on_cpu = [first, *(_outcome(submission, backbone, target, 0, "cpu") for target in targets[1:])]
    means = [_mean_d_a(on_cpu)]
    for seed in range(1, sizes.seeds):
        others = [_outcome(submission, backbone, target, seed, "cpu") for target in targets]
        means.append(_mean_d_a(others))
    mean = _mean_d_a(on_device)
    figures = [
        Figure(row=item, column="d_a, CPU", values=[means[0]]),
        Figure(row=item, column=f"d_a, {sizes.device}", values=[mean]),
        Figure(
            row=item,
            column="difference",
            values=[abs(mean - means[0])],
            aim=TOLERANCE + max(means) - min(means),
        ),
    ]
    correlation = _correlation(on_cpu, on_device)
    if np.isfinite(correlation):
        figures.append(Figure(row=item, column="correlation of scores", values=[correlation]))
    for column, outcomes in (("CPU", on_cpu), (sizes.device, on_device)):
        seconds = [judging.cost_of(outcome.result).adaptation_seconds for outcome in outcomes]
        # The first adaptation warms up.
        figures.append(Figure(row=item, column=f"time, {column}", unit="s", values=[min(seconds)]))
    return Measured(tuple(figures))


def _judged(
    item: str, submission: Submission, backbone: str, first: InProcessOutcome, sizes: Sizes
) -> Measured:
    """Have the judge evaluate a method on the device, in isolated workers. See `_compared`."""
    evaluator = judging.evaluator_on(sizes.device, backbone, submission)
    result = judging.judged(evaluator, submission, _drawn(backbone, 0))
    seconds = judging.cost_of(result).adaptation_seconds
    expected, measured = _d_a(first.result), _d_a(result)
    difference = abs(measured - expected)
    return Measured(
        (
            Figure(row=item, column="d_a, CPU", values=[expected]),
            Figure(row=item, column=f"d_a, {sizes.device}", values=[measured]),
            Figure(row=item, column="difference", values=[difference]),
            Figure(row=item, column=f"time, {sizes.device}", unit="s", values=[seconds]),
        ),
        (
            f"{item}: computed in {', '.join(result.precision)}; "
            f"confined by {', '.join(evaluator.confinement)}.",
            *(f"{item}: no deterministic form of {name}." for name in result.nondeterministic),
        ),
    )


def _outcome(
    submission: Submission, backbone: str, target: int, seed: int, device: str
) -> InProcessOutcome:
    """Adapt to one of the task's targets, and test.

    Args:
        submission: the method.
        backbone: the backbone's name.
        target: the number of the target.
        seed: added to that of the episode for the random numbers of the method. The images stay.
        device: `cpu` or `cuda`.
    """
    drawn = _drawn(backbone, target)
    drawn = dataclasses.replace(drawn, seed=drawn.seed + seed)
    network = copy.deepcopy(judging.network(backbone)).to(device)
    settings = submission.hyperparameters_for(network.name)
    adapt = import_adapt(submission.folder)
    adaptation = adapt_in_process(adapt, network, drawn, settings, submission=submission)
    return adaptation.test(drawn)


@functools.cache
def _drawn(backbone: str, target: int) -> Episode:
    """Draw one of the task's episodes."""
    first = episode(TRIED_TASK, backbone=backbone)
    name = first.stimuli.targets[target]
    return first.stimuli.episode(name, 0)


def _d_a(result: EpisodeResult) -> float:
    assert result.measures is not None
    return result.measures.d_a


def _mean_d_a(outcomes: list[InProcessOutcome]) -> float:
    return statistics.fmean(_d_a(outcome.result) for outcome in outcomes)


def _correlation(one: list[InProcessOutcome], other: list[InProcessOutcome]) -> float:
    """Return the mean correlation of scores of the same images; NaN where scores are constant."""
    pairs = zip(one, other, strict=True)
    with np.errstate(all="ignore"):
        return statistics.fmean(
            float(np.corrcoef(first.scores, second.scores)[0, 1]) for first, second in pairs
        )


METHODS = Part("methods", "(a) Every method, on the device and on the CPU", 0.22, _items, _measure)
