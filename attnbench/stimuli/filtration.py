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

    The network answers among all its labels. What it said of pictures in files is kept on disk, as
    it takes minutes.

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
    kept = _kept_on_disk(source, network)
    try:
        said = np.load(kept) if kept else None
    except (OSError, ValueError):
        said = None
    if said is None or said.shape != (len(source.labels), 2):
        said = _answers(prepare(source, network.preprocessing), network)
        if kept is not None:
            _keep(kept, said)
    truths = np.array([network.labels.index(name) for name in source.classes])[source.labels]
    wrong = fooled(said[:, 0].astype(np.int64), said[:, 1], truths, definition.confidence)
    return replace(prepare(source, preprocessing), rows=np.flatnonzero(wrong))


def _answers(pictures: Prepared, network: Backbone) -> NDArray[np.float32]:
    """The network's most probable label and its probability, `[N, 2]`."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(pictures.rows), _BATCH):
            numbers = np.arange(start, min(start + _BATCH, len(pictures.rows)))
            pixels = in_unit_range(pictures.load(numbers))
            images = torch.from_numpy(normalise(pixels, network.preprocessing))
            certainty, answer = network(images).softmax(1).max(1)
            parts.append(torch.stack([answer.float(), certainty], 1).numpy())
    return np.concatenate(parts)


def _kept_on_disk(source: Source, network: Backbone) -> Path | None:
    """Where the answers about these very pictures are kept; None where drawing is quick enough."""
    if not isinstance(source, Dataset):
        return None
    digest = hashlib.sha256(fingerprint(network).encode())
    for row in range(len(source.labels)):
        digest.update(hashlib.sha256(source.encoded(row)).digest())
    return cache_folder() / f"{source.name}-answers-{digest.hexdigest()[:32]}.npy"


def _keep(path: Path, answers: NDArray[np.float32]) -> None:
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{np.random.default_rng().integers(1 << 60):x}.npy")
        np.save(unfinished, answers)
        unfinished.replace(path)
