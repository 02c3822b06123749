"""Picture files for tests, made up in a few lines."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from attnbench.backbones.backbone import Preprocessing
from attnbench.stimuli.datasets import Dataset
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.stimuli.opening import open_dataset, open_folder
from attnbench.tasks import FolderSource, HubSource, Track

SMALL = Preprocessing(size=16, resize=16, mean=(0.5,) * 3, std=(0.5,) * 3)


def encoded_picture(seed: int, size: tuple[int, int] = (24, 20)) -> bytes:
    """A PNG of random colours. Another seed gives another picture."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_picture(path: Path, seed: int) -> Path:
    """Write a picture and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded_picture(seed))
    return path


def write_classes(root: Path, classes: dict[str, int], first_seed: int = 0) -> Path:
    """Write a folder of different pictures for each class, given the number of pictures."""
    seed = first_seed
    for name, count in classes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            write_picture(root / name / f"{number:03d}.png", seed := seed + 1)
    return root


def folder_track(path: Path, split: Any = None, test_split: Any = None, **changes: Any) -> Track:
    """A track on a folder: both sources have `split`, unless the test source has another."""
    source: dict[str, Any] = {"kind": "folder", "path": str(path)}
    source |= {key: changes.pop(key) for key in ("skip_damaged", "file") if key in changes}
    sample = {"positives": changes.pop("positives", 2), "negatives": changes.pop("negatives", 4)}
    table: dict[str, Any] = {
        "backbones": ["shipped/digits-cnn"],
        "targets": ["cat"],
        "timeout": 10,
        "adapt": sample | {"source": source | {"split": split}},
        "test": sample | {"source": source | {"split": test_split or split}},
    }
    return Track.model_validate(table | changes)


def folder_stimuli(
    path: Path, split: Any = None, *, labels: tuple[str, ...] | None = None, **changes: Any
) -> TrackStimuli:
    """The episodes of `folder_track`."""
    return TrackStimuli(folder_track(path, split, **changes), SMALL, labels, None)


def own_source(path: Path, split: Any = None, part: str = "adapt", **changes: Any) -> Dataset:
    """A folder of one's own pictures."""
    table = {"kind": "folder", "path": str(path), "split": split}
    return open_folder(FolderSource.model_validate(table | changes), part)


def hub_source(data: Path, split: str, **changes: Any) -> Dataset:
    """The folder `pets` of a data folder, in place of a data set of the hub."""
    table = {"kind": "hub", "hub": "nobody/pets", "folder": "pets", "split": split}
    return open_dataset(HubSource.model_validate(table | changes), data)


def names_of(source: Dataset) -> list[str]:
    """The names of all pictures in records."""
    return [source.image_name(row) for row in range(len(source.labels))]


def counts_of(source: Dataset) -> dict[str, int]:
    """The number of pictures of each class."""
    counts = np.bincount(source.labels, minlength=len(source.classes)).tolist()
    return dict(zip(source.classes, counts, strict=True))


def write_parquet(file: Path, labels: list[Any], label_type: Any = None, first: int = 0) -> None:
    """Write a Parquet file of one picture per label, with labels of ClassLabel cat and dog."""
    label_type = label_type or datasets.ClassLabel(names=["cat", "dog"])
    features = datasets.Features({"image": datasets.Image(), "label": label_type})
    pictures = [
        {"bytes": encoded_picture(first + row), "path": None} for row, _ in enumerate(labels)
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"image": pictures, "label": labels}, schema=features.arrow_schema)
    pq.write_table(table, file)
