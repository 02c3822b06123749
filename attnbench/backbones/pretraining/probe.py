"""`python -m attnbench.backbones.pretraining.probe NAME --data DIR`: how good is a code for 10 classes?

One probe for all: multinomial logistic regression on the standardised code, fitted on the images the
encoder was trained on, now with their labels, and tested on the test split.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from attnbench.backbones import load
from attnbench.backbones.backbone import Backbone
from attnbench.backbones.pretraining.recipes import CIFAR_SOURCE
from attnbench.stimuli.preparing import in_unit_range, normalise, resize_and_crop
from attnbench.stimuli.sources import open_source
from attnbench.tasks import HubSource

_BATCH = 500


def codes(
    backbone: Backbone, definition: HubSource, data: Path | None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The backbone's output for every picture of a source, `[N, d]`, and the labels."""
    source = open_source(definition, data)
    parts = []
    with torch.no_grad():
        for start in range(0, len(source.labels), _BATCH):
            rows = range(start, min(start + _BATCH, len(source.labels)))
            pictures = [resize_and_crop(p, backbone.preprocessing) for p in source.load(rows)]
            images = normalise(in_unit_range(np.stack(pictures)), backbone.preprocessing)
            parts.append(backbone(torch.from_numpy(images)).numpy())
    return np.concatenate(parts), source.labels


def testing_split(definition: HubSource) -> HubSource:
    """The test pictures of the set whose training pictures these are."""
    return definition.model_copy(update={"split": "test"})


def probe_error(backbone: Backbone, training: HubSource, data: Path | None) -> tuple[float, int]:
    """Error of the probe on the test split, 0 to 1, and the probe's number of parameters."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    seen, labels = codes(backbone, training, data)
    test, truth = codes(backbone, testing_split(training), data)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    probe.fit(seen, labels)
    return float((probe.predict(test) != truth).mean()), 10 * (seen.shape[1] + 1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the error of each named encoder."""
    parser = argparse.ArgumentParser(description="10-way error of a linear probe on CIFAR-10.")
    parser.add_argument("names", nargs="+", metavar="NAME", help="such as shipped/cifar-vae")
    parser.add_argument("--data", type=Path, help="the data folder")
    parser.add_argument("--untrained", action="store_true", help="as initialised, for comparison")
    options = parser.parse_args(arguments)
    for name in options.names:
        backbone = load(name, untrained=options.untrained)
        error, parameters = probe_error(backbone, CIFAR_SOURCE, options.data)
        print(f"{name}: error {error:.2%}, {parameters} parameters in the probe")


if __name__ == "__main__":
    main()
