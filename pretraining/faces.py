"""CelebA, photographs of faces, which STAWM's authors drew (Liu et al. 2015, arXiv 1411.7766)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attnbench.backbones.backbone import Preprocessing
from attnbench.errors import AttnbenchError
from attnbench.stimuli.preprocessing import resize_and_crop

_HUB = "flwrlabs/celeba"


def load_faces(
    preprocessing: Preprocessing, data: Path | None, split: str, count: int
) -> NDArray[np.uint8]:
    """Load the first faces of a split.

    Args:
        preprocessing: the network's.
        data: a folder that contains `celeba` as torchvision lays it out, or None for the hub.
        split: `train`, `valid` or `test`.
        count: how many faces.

    Returns:
        uint8 `[n, 3, size, size]`.

    Raises:
        AttnbenchError: if the data is missing.
    """
    faces = _from_hub(split) if data is None else _from_folder(data, split)
    prepared = [
        resize_and_crop(np.asarray(face.convert("RGB")).transpose(2, 0, 1), preprocessing)
        for face in itertools.islice(faces, count)
    ]
    if not prepared:
        raise AttnbenchError(f"CelebA has no faces in the split {split!r}")
    return np.stack(prepared)


def _from_folder(data: Path, split: str) -> Iterable[Image.Image]:
    from torchvision.datasets import CelebA

    try:
        dataset = CelebA(str(data), split=split, target_type="identity")
    except (RuntimeError, OSError) as error:
        raise AttnbenchError(
            f"{data / 'celeba'} is not CelebA as torchvision.datasets.CelebA unpacks it: {error}"
        ) from None
    return (face for face, _ in (dataset[number] for number in range(len(dataset))))


def _from_hub(split: str) -> Iterable[Image.Image]:
    import datasets

    try:
        table = datasets.load_dataset(_HUB, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise AttnbenchError(f"cannot load {_HUB} from the hub: {error}; pass --data DIR") from None
    return (row["image"] for row in table)
