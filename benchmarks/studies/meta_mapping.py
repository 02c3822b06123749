"""Can a map between tasks stand in for images of the target (Lampinen & McClelland 2020)?

    python -m benchmarks.studies.meta_mapping [--backbone shipped/figures-simclr]

The pictures are the 40 classes of `attnbench.stimuli.figures`: 20 pairs that differ in colour only.
The vector of a class is its row of a last layer, a ridge regression on labelled pictures. "Warm to
cool" is a linear map from the vector of a warm class to that of its cool counterpart. It is learned
on 19 pairs and applied to the warm vector of the 20th pair. The cool class of that pair is the
target. None of its pictures is used, not even as a negative of another class.

Printed is d_a on test pictures, the target against the 39 other classes, with a mean and a 95 %
interval over the 20 targets, for

- trained: a read-out trained on pictures of the target, which is what the others are held against;
- mapped: what the map predicts, without any picture of the target;
- counterpart: the warm vector itself;
- nearest: the cool vector of the known pair whose warm vector is nearest in angle;
- mean: the mean of all known vectors.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge, RidgeCV
from tabulate import tabulate

from attnbench.adaptation import frozen_features, pooled_encoder
from attnbench.backbones import load
from attnbench.backbones.backbone import Backbone
from attnbench.statistics.detection import detect
from attnbench.statistics.intervals import mean_interval
from attnbench.stimuli.figures import CLASSES, draw
from attnbench.stimuli.preprocessing import in_unit_range, normalise

Floats = NDArray[np.float64]

WARM = [label for label, name in enumerate(CLASSES) if name.startswith("warm")]
COOL = [CLASSES.index(CLASSES[label].replace("warm", "cool")) for label in WARM]

# Relative to a feature's variance times the number of pictures.
_ROW_PENALTY = 0.1
# Relative to the mean squared distance of the known vectors from their mean.
_MAP_PENALTIES = np.logspace(-3, 3, 13)


@dataclass(frozen=True)
class Pictures:
    """Features of labelled pictures.

    Attributes:
        features: `[n, d]`.
        labels: int `[n]`, indices into `CLASSES`.
    """

    features: Floats
    labels: NDArray[np.int64]

    @classmethod
    def drawn(cls, backbone: Backbone, split: str, per_class: int) -> Pictures:
        """Draw pictures of all classes and compute the features in front of the backbone's head."""
        encoder = pooled_encoder(backbone)
        features = []
        for label in range(len(CLASSES)):
            pixels = draw(split, label, np.arange(per_class))
            images = normalise(in_unit_range(pixels), backbone.preprocessing)
            features.append(frozen_features(encoder, torch.from_numpy(images)).double().numpy())
        return cls(np.concatenate(features), np.repeat(np.arange(len(CLASSES)), per_class))

    def without(self, label: int) -> Pictures:
        """Return the pictures of all other classes."""
        kept = self.labels != label
        return Pictures(self.features[kept], self.labels[kept])


def class_vectors(pictures: Pictures) -> Floats:
    """Return a last layer's rows for all classes, `[classes, d]`, trained by ridge regression.

    The row of a class without pictures is zero.
    """
    x = pictures.features
    y = pictures.labels[:, None] == np.arange(len(CLASSES))
    alpha = _ROW_PENALTY * len(x) * x.var(axis=0).mean()
    rows: Floats = Ridge(alpha=alpha).fit(x, y.astype(float)).coef_
    return rows


def apply_map(x: Floats, y: Floats, new: Floats) -> Floats:
    """Learn a linear map from known vectors `x` to `y`, and return what it makes of a new one.

    The map is a ridge regression of the change from x to y. With a large penalty it adds the mean
    change. The penalty is chosen by leaving out one pair at a time.

    Args:
        x, y: `[pairs, d]`.
        new: `[d]`.

    Returns:
        `[d]`.
    """
    scale = x.var(axis=0).sum()
    change = RidgeCV(alphas=scale * _MAP_PENALTIES).fit(x, y - x)
    predicted: Floats = new + change.predict(new[None])[0]
    return predicted


def nearest(x: Floats, y: Floats, new: Floats) -> Floats:
    """Return the row of `y` whose row of `x` has the smallest angle to `new`."""
    cosines = x @ new / np.linalg.norm(x, axis=1)
    row: Floats = y[cosines.argmax()]
    return row


def d_as(pair: int, train: Pictures, test: Pictures) -> dict[str, float]:
    """Return d_a of each vector for the cool class of a pair whose cool pictures are withheld."""
    target = COOL[pair]
    known = class_vectors(train.without(target))
    others = np.arange(len(WARM)) != pair
    warm, cool = known[WARM][others], known[COOL][others]
    counterpart = known[WARM[pair]]
    vectors = {
        "trained": class_vectors(train)[target],
        "mapped": apply_map(warm, cool, counterpart),
        "counterpart": counterpart,
        "nearest": nearest(warm, cool, counterpart),
        "mean": np.delete(known, target, axis=0).mean(axis=0),
    }
    present = test.labels == target
    return {name: detect(test.features @ vector, present).d_a for name, vector in vectors.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="zero-shot d_a by a map between tasks")
    parser.add_argument("--backbone", default="shipped/figures-simclr")
    parser.add_argument("--train", type=int, default=50, help="pictures of a class to train on")
    parser.add_argument("--test", type=int, default=100, help="pictures of a class to test on")
    options = parser.parse_args()
    backbone = load(options.backbone)
    train = Pictures.drawn(backbone, "adapt", options.train)
    test = Pictures.drawn(backbone, "test", options.test)
    results = [d_as(pair, train, test) for pair in range(len(WARM))]
    rows = []
    for name in results[0]:
        values = np.array([result[name] for result in results])
        low, high = mean_interval(values)
        rows.append((name, f"{values.mean():.2f}", f"[{low:.2f}, {high:.2f}]"))
    print(tabulate(rows, ("vector", "d_a", "95 %"), tablefmt="github"))


if __name__ == "__main__":
    main()
