"""`attention` against `bias_only` on photographs, once by attnbench and once in plain PyTorch.

    python -m benchmarks.studies.attention_on_photographs --data DATA [--targets 5]

The episodes are those of `imagenet-standard` on `photographs`: SqueezeNet 1.1 and Imagenette.
attnbench's part is the two submissions as shipped and its own d_a. The other part shares nothing
with them but the images and the network: gains and a threshold are found by torch's L-BFGS with the
same penalty written anew, and d_a by scikit-learn and SciPy.

Printed are d_a and d′ of each, mean over targets, with a 95 % interval of the difference between
the two submissions.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import roc_auc_score
from tabulate import tabulate
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from attnbench.backbones import load
from attnbench.backbones.backbone import Backbone
from attnbench.statistics.detection import detect
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.submission import load_submission
from attnbench.tasks import load_task
from tests.submissions.adapted import load_program

Scores = NDArray[np.float64]
STAGE = "block3"  # the middle one, after which `attention` has its gains


def plain_attention(backbone: Backbone, pos: Tensor, neg: Tensor, penalty: float) -> nn.Module:
    """Return images to log-odds, with gains and a threshold that minimise the penalised loss.

    The penalty of a gain's change is that of `fit_gauss_newton`: the squared derivative of a score by
    the gains, mean over images, at gains of one.
    """
    target, count = backbone.target, len(pos) + len(neg)
    with torch.no_grad():
        lower = nn.Sequential(*list(backbone.children())[: backbone.stages.index(STAGE) + 1])
        features = torch.cat([lower(rows) for rows in torch.cat([pos, neg]).split(16)])
    upper = nn.Sequential(*list(backbone.children())[backbone.stages.index(STAGE) + 1 :])
    signs = torch.cat([torch.ones(len(pos)), -torch.ones(len(neg))])
    weights = torch.cat([torch.full((len(k),), 0.5 / len(k)) for k in (pos, neg)])

    def scores(gains: Tensor, bias: Tensor, maps: Tensor) -> Tensor:
        logits = upper(maps * gains[:, None, None]).double()
        logits[:, target] = logits[:, target] + bias
        others = logits.clone()
        others[:, target] = -torch.inf
        return logits[:, target] - torch.logsumexp(others, dim=1)

    gains = torch.ones(features.shape[1], requires_grad=True)
    bias = torch.zeros((), requires_grad=True)
    squared = torch.zeros(())
    for maps in features.split(1):
        (gradient,) = torch.autograd.grad(scores(gains, bias, maps).sum(), gains)
        squared = squared + gradient.square().sum() / count
    optimiser = torch.optim.LBFGS([gains, bias], max_iter=25, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = penalty / (2 * count) * squared * (gains - 1).square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        for rows in torch.arange(count).split(16):
            part = -(
                weights[rows] * logsigmoid(signs[rows] * scores(gains, bias, features[rows]))
            ).sum()
            part.backward()  # type: ignore[no-untyped-call]
            value = value + part
        return value.detach()

    optimiser.step(loss)  # type: ignore[no-untyped-call, arg-type]

    class Plain(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return scores(gains.clamp(min=0), bias, lower(images))

    return Plain()


def plain_measures(scores: Scores, present: NDArray[np.bool_]) -> tuple[float, float]:
    """Return d′, with the log-linear correction weighted by class size, and d_a."""
    positives, negatives = int(present.sum()), int((~present).sum())
    share = positives / (positives + negatives)
    hits, false_alarms = int((scores[present] > 0).sum()), int((scores[~present] > 0).sum())
    hit_rate = (hits + share) / (positives + 2 * share)
    false_alarm_rate = (false_alarms + 1 - share) / (negatives + 2 * (1 - share))
    d_prime = stats.norm.ppf(hit_rate) - stats.norm.ppf(false_alarm_rate)
    d_a = np.sqrt(2) * stats.norm.ppf(roc_auc_score(present, scores))
    return float(d_prime), float(d_a)


def main() -> None:
    """Print the two tables."""
    parser = argparse.ArgumentParser(
        description="attention against a bias, by an independent script"
    )
    parser.add_argument("--data", type=Path, required=True, help="the data folder")
    parser.add_argument("--targets", type=int, default=5)
    parser.add_argument("--negatives", type=int, default=600, help="test negatives of a target")
    options = parser.parse_args()
    track = load_task("imagenet-standard").tracks["photographs"]
    backbone = load(track.backbones[0], data=options.data)
    stimuli = TrackStimuli(track, backbone.preprocessing, backbone.labels, options.data)
    penalty = load_submission("attention").manifest.hyperparameters["penalty"]
    assert isinstance(penalty, float)
    found: dict[str, list[tuple[float, float]]] = {}
    for target in stimuli.targets[: options.targets]:
        episode = stimuli.episode(target, 0)
        pos, neg = torch.from_numpy(episode.pos), torch.from_numpy(episode.neg)
        rows = np.flatnonzero(episode.present).tolist()
        rows += np.flatnonzero(~episode.present)[: options.negatives].tolist()
        present = episode.present[rows]
        backbone.target = episode.label
        detectors = {"plain PyTorch": plain_attention(copy.deepcopy(backbone), pos, neg, penalty)}
        for name in ("attention", "bias_only"):
            settings = load_submission(name).hyperparameters_for(backbone.name)
            adapt = load_program(name).adapt
            detectors[name] = adapt(copy.deepcopy(backbone), pos, neg, **settings).eval()
        for name, detector in detectors.items():
            with torch.no_grad():
                parts = [
                    detector(torch.from_numpy(episode.make(np.array(part))))
                    for part in np.array_split(rows, len(rows) // 16)
                ]
            scores = torch.cat(parts).double().numpy()
            plain = plain_measures(scores, present)
            own = detect(scores, present)
            np.testing.assert_allclose(plain, (own.d_prime, own.d_a), rtol=1e-9)
            found.setdefault(name, []).append(plain)
    values = {name: np.array(measured) for name, measured in found.items()}
    means = [(name, *(f"{m:.2f}" for m in v.mean(axis=0))) for name, v in values.items()]
    print(tabulate(means, ("method", "d′", "d_a"), tablefmt="github", disable_numparse=True))
    for name in ("attention", "plain PyTorch"):
        difference = (values[name] - values["bias_only"])[:, 1]
        test = stats.ttest_1samp(difference, 0.0)
        low, high = test.confidence_interval(0.95)
        print(f"{name} - bias_only, d_a: {difference.mean():+.2f} [{low:+.2f}, {high:+.2f}]")


if __name__ == "__main__":
    main()
