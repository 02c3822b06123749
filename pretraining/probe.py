"""`python -m pretraining.probe NAME --data DIR`: the error of a linear probe on an encoder's code.

All encoders get the same probe: multinomial logistic regression on the standardised code. It is
fitted with labels on the pictures that the encoder was trained on, and tested on the test split.
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
from attnbench.stimuli.preprocessing import in_unit_range, normalise, resize_and_crop
from attnbench.stimuli.sources import open_source
from attnbench.tasks import HubSource
from pretraining.recipes import CIFAR_SOURCE

_BATCH_SIZE = 500


def encode(
    backbone: Backbone, definition: HubSource, data: Path | None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the backbone's code for every picture of a source.

    Args:
        backbone: the encoder.
        definition: the source.
        data: the data folder, or None to load from the hub.

    Returns:
        Codes, float32 `[N, d]`, and class indices, int64 `[N]`.

    Raises:
        AttnbenchError: if the data is missing or damaged.
    """
    source = open_source(definition, data)
    codes = []
    with torch.no_grad():
        for start in range(0, len(source.labels), _BATCH_SIZE):
            rows = range(start, min(start + _BATCH_SIZE, len(source.labels)))
            pictures = [
                resize_and_crop(picture, backbone.preprocessing) for picture in source.load(rows)
            ]
            images = normalise(in_unit_range(np.stack(pictures)), backbone.preprocessing)
            codes.append(backbone(torch.from_numpy(images)).numpy())
    return np.concatenate(codes), source.labels


def matching_test_split(definition: HubSource) -> HubSource:
    """Return the test split of the data set that a source is a part of."""
    return definition.model_copy(update={"split": "test"})


def probe_error(backbone: Backbone, training: HubSource, data: Path | None) -> tuple[float, int]:
    """Fit and test a linear probe.

    Args:
        backbone: the encoder.
        training: the pictures that the probe is fitted on.
        data: the data folder, or None to load from the hub.

    Returns:
        The probe's error on the test split, from 0 to 1, and its number of parameters.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    training_codes, training_labels = encode(backbone, training, data)
    test_codes, test_labels = encode(backbone, matching_test_split(training), data)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    probe.fit(training_codes, training_labels)
    error = float((probe.predict(test_codes) != test_labels).mean())
    return error, 10 * (training_codes.shape[1] + 1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the probe's error for each named encoder."""
    parser = argparse.ArgumentParser(
        prog="python -m pretraining.probe",
        description="Print the 10-way error of a linear probe on CIFAR-10.",
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="encoder, e.g. shipped/cifar-vae")
    parser.add_argument("--data", type=Path, help="data folder (default: load from the hub)")
    parser.add_argument(
        "--untrained", action="store_true", help="probe the encoder with its initial weights"
    )
    options = parser.parse_args(arguments)
    for name in options.names:
        backbone = load(name, untrained=options.untrained)
        error, parameters = probe_error(backbone, CIFAR_SOURCE, options.data)
        print(f"{name}: error {error:.2%}, {parameters} parameters in the probe")


if __name__ == "__main__":
    main()
