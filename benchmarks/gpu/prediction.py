"""(f) How much slower is prediction by the judge than a bare loop over the same batches?"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from attnbench.commands.in_process import adapt_in_process
from attnbench.sandbox.warm_state import synchronise
from attnbench.stimuli.episode import Episode
from attnbench.submission import load_submission
from benchmarks.contenders import shipped
from benchmarks.gpu import judging
from benchmarks.gpu.part import Measured, Part, Sizes
from benchmarks.gpu.rates import synchronised_seconds, until
from benchmarks.measured import Figure

METHOD, PER_CLASS = "bias_only", 8
# Images of a batch in the loop that shows what small batches cost.
_LARGE_BATCH = 256


def _items(sizes: Sizes) -> list[str]:
    return list(dict.fromkeys([sizes.backbone, *sizes.networks]))


def _measure(item: str, sizes: Sizes, seconds: float) -> Measured:
    submission = load_submission(METHOD)
    episode = judging.noise_on(item, per_class=PER_CLASS, tested=sizes.tested)
    evaluator = judging.evaluator_on(sizes.device, item, submission)
    network = copy.deepcopy(judging.network(item)).to(sizes.device)
    program = shipped(METHOD)
    adaptation = adapt_in_process(
        lambda backbone, pos, neg: program(backbone, pos, neg), network, episode, {}
    )
    detector, device = adaptation.detector, adaptation.device
    count = len(episode.present)
    by_judge: list[float] = []
    bare: list[float] = []
    large: list[float] = []

    def once() -> None:
        cost = judging.cost_of(judging.judged(evaluator, submission, episode))
        by_judge.append(cost.prediction_seconds)
        order = np.arange(count)
        for batches, values in (
            (list(episode.batches(order)), bare),
            (np.array_split(order, max(1, count // _LARGE_BATCH)), large),
        ):
            _predict(detector, episode, batches[:1], device)  # warms up
            values.append(
                synchronised_seconds(
                    lambda batches=batches: _predict(detector, episode, batches, device), device
                )
            )

    until(seconds, max(1, sizes.repeats // 5), once)
    ratios = [one / other for one, other in zip(by_judge, bare, strict=True)]
    rates = {
        "by the judge": by_judge,
        "bare loop": bare,
        f"bare loop, {_LARGE_BATCH} at a time": large,
    }
    figures = [
        Figure(
            row=item,
            column=column,
            unit="images a second",
            values=[count / each for each in values],
        )
        for column, values in rates.items()
    ]
    return Measured(
        (*figures, Figure(row=item, column="time over that of the loop", values=ratios))
    )


@torch.no_grad()
def _predict(
    detector: nn.Module, episode: Episode, batches: list[np.ndarray], device: torch.device
) -> None:
    """Score test images as anybody would: build a batch, move it, score it, fetch the scores."""
    detector.eval()
    for order in batches:
        images = torch.from_numpy(episode.make(order)).to(device)
        detector(images).cpu()
    synchronise(device)


PREDICTION = Part("prediction", "(f) Prediction beside a bare loop", 0.10, _items, _measure)
