"""Adversarial filtration: only the pictures of a source that another network misclassifies."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from attnbench.backbones import fingerprint, load
from attnbench.backbones.backbone import Backbone, Preprocessing
from attnbench.errors import AttnbenchError
from attnbench.resources import cache_folder
from attnbench.stimuli import decoding
from attnbench.stimuli.cache import cached_array
from attnbench.stimuli.class_labels import ClassLabels
from attnbench.stimuli.datasets import Dataset
from attnbench.stimuli.generators import misclassified
from attnbench.stimuli.preprocessing import in_unit_range, normalise
from attnbench.stimuli.shipped_predictions import shipped_predictions
from attnbench.stimuli.sources import PreparedPictures, Source, prepare
from attnbench.tasks import Filtration

_BATCH_SIZE = 64


def filter_pictures(
    source: Source,
    definition: Filtration,
    preprocessing: Preprocessing,
    class_labels: ClassLabels,
    data: Path | None,
) -> PreparedPictures:
    """Return the pictures of a source that the filter network misclassifies with confidence.

    The network predicts among all of its labels. Predictions for picture files are stored on disk,
    because they take minutes. Those for the figures of the shipped tasks are shipped.

    Args:
        source: all pictures.
        definition: the filter network and the minimum confidence.
        preprocessing: the backbone's. The filter network gets the pictures with its own.
        class_labels: how classes are found among the network's labels.
        data: a data folder that may hold the network's weights.

    Raises:
        AttnbenchError: if the network cannot be loaded, or has no label for a class of the source.
    """
    network = load(definition.network, data=data)
    # A class has one index in the source and another among the network's labels.
    indices = {name: class_labels.index(name, network.labels) for name in source.classes}
    unknown_classes = [name for name, index in indices.items() if index is None]
    if unknown_classes:
        raise AttnbenchError(
            f"{definition.network} cannot filter {source.name}: it has no label for "
            f"{', '.join(sorted(unknown_classes))[:200]}; choose another network for the filtration, "
            "or write into the task which of its labels these classes are (labels)"
        )
    pictures = prepare(source, network.preprocessing)
    shape = (len(source.labels), 2)
    if isinstance(source, Dataset):
        path = _predictions_path(source, network)
        predictions = cached_array(path, shape, lambda: predict(pictures, network))
    else:
        predictions = shipped_predictions(source, network)
        if predictions is None:
            predictions = predict(pictures, network)
    wrong = misclassified(
        predictions[:, 0].astype(np.int64),
        predictions[:, 1],
        np.array(list(indices.values()))[source.labels],
        definition.confidence,
    )
    return replace(prepare(source, preprocessing), rows=np.flatnonzero(wrong))


def predict(pictures: PreparedPictures, network: Backbone) -> NDArray[np.float32]:
    """Return the network's most probable label and its probability, float32 `[N, 2]`."""
    batches = []
    with torch.no_grad():
        for start in range(0, len(pictures.rows), _BATCH_SIZE):
            indices = np.arange(start, min(start + _BATCH_SIZE, len(pictures.rows)))
            pixels = in_unit_range(pictures.load(indices))
            images = torch.from_numpy(normalise(pixels, network.preprocessing))
            probabilities, labels = network(images).softmax(1).max(1)
            batches.append(torch.stack([labels.float(), probabilities], 1).numpy())
    return np.concatenate(batches)


def _predictions_path(source: Dataset, network: Backbone) -> Path:
    """Return the file of the predictions for exactly these pictures and weights."""
    digest = hashlib.sha256(f"{fingerprint(network)} decoder {decoding.VERSION}".encode())
    for row in range(len(source.labels)):
        digest.update(hashlib.sha256(source.encoded(row)).digest())
    return cache_folder() / f"{source.cache_name}-answers-{digest.hexdigest()[:32]}.npy"
