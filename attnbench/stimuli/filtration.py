"""Adversarial filtration: the pictures of a source that another network gets wrong."""

from __future__ import annotations

import contextlib
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
from attnbench.stimuli.datasets import Dataset
from attnbench.stimuli.generators import fooled
from attnbench.stimuli.preparing import in_unit_range, normalise
from attnbench.stimuli.sources import Prepared, Source, prepare
from attnbench.tasks import Filtration

_BATCH = 64


def filtered(
    source: Source, definition: Filtration, preprocessing: Preprocessing, data: Path | None
) -> Prepared:
    """The pictures of a source that the filter network gets wrong with confidence.

    The network answers among the source's classes, each a label of its own. What it said of
    pictures in files is kept on disk, as it takes minutes.

    Args:
        source: all pictures.
        definition: the filter network and its least confidence.
        preprocessing: of the backbone; the filter network sees the pictures with its own.
        data: a folder that may hold the network's weights.

    Raises:
        AttnbenchError: where the network does not know the classes, or is not to be had.
    """
    network = load(definition.network, data=data)
    missing = set(source.classes) - set(network.labels or ())
    if network.labels is None or missing:
        raise AttnbenchError(
            f"{definition.network} has no label for {', '.join(sorted(missing))[:200]}: "
            f"it cannot filter {source.name}"
        )
    columns = [network.labels.index(name) for name in source.classes]
    kept = _kept_on_disk(source, network)
    try:
        probabilities = np.load(kept) if kept else None
    except (OSError, ValueError):
        probabilities = None
    if probabilities is None or probabilities.shape != (len(source.labels), len(columns)):
        probabilities = _probabilities(prepare(source, network.preprocessing), network, columns)
        if kept is not None:
            _keep(kept, probabilities)
    wrong = fooled(probabilities, source.labels, definition.confidence)
    return replace(prepare(source, preprocessing), rows=np.flatnonzero(wrong))


def _probabilities(
    pictures: Prepared, network: Backbone, columns: list[int]
) -> NDArray[np.float32]:
    """The network's soft-max over the source's classes, `[N, classes]`."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(pictures.rows), _BATCH):
            numbers = np.arange(start, min(start + _BATCH, len(pictures.rows)))
            pixels = in_unit_range(pictures.load(numbers))
            images = torch.from_numpy(normalise(pixels, network.preprocessing))
            parts.append(network(images)[:, columns].softmax(1).numpy())
    return np.concatenate(parts)


def _kept_on_disk(source: Source, network: Backbone) -> Path | None:
    """Where the answers about these very pictures are kept; None where drawing is quick enough."""
    if not isinstance(source, Dataset):
        return None
    digest = hashlib.sha256(fingerprint(network).encode())
    for row in range(len(source.labels)):
        digest.update(hashlib.sha256(source.encoded(row)).digest())
    return cache_folder() / f"{source.name}-answers-{digest.hexdigest()[:32]}.npy"


def _keep(path: Path, probabilities: NDArray[np.float32]) -> None:
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{np.random.default_rng().integers(1 << 60):x}.npy")
        np.save(unfinished, probabilities)
        unfinished.replace(path)
