"""Pictures in files: a dataset of the Hugging Face hub, or a folder in its place."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attnbench.backbones.imagenet import WNIDS
from attnbench.errors import AttnbenchError
from attnbench.stimuli.preparing import Picture
from attnbench.tasks import HubSource

_PICTURES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Dataset:
    """Encoded pictures with labels, ordered by class and, within a class, as the data has them.

    Attributes:
        name: what an image of it is called in a record, before class and number.
        classes: their names; `labels`: the class index of every picture, `[N]`, ascending.
        encoded: the bytes of the picture in a row, as they lie in the file.
    """

    name: str
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    encoded: Callable[[int], bytes]

    def load(self, rows: Sequence[int]) -> list[Picture]:
        """The pictures as RGB, each of its own size. Raises AttnbenchError for a damaged one."""
        return [self.decode(row, self.encoded(row)) for row in rows]

    def decode(self, row: int, encoded: bytes) -> Picture:
        """The picture of a row from its bytes, grey or CMYK ones as RGB, `[3, h, w]`."""
        try:
            with Image.open(io.BytesIO(encoded)) as picture:
                return np.asarray(picture.convert("RGB"), dtype=np.uint8).transpose(2, 0, 1)
        except (OSError, ValueError, SyntaxError) as error:
            label = int(self.labels[row])
            number = row - int(np.searchsorted(self.labels, label))
            raise AttnbenchError(
                f"{self.name}/{self.classes[label]}/{number}: the image cannot be decoded "
                f"({error}); fetch the dataset again"
            ) from None


def open_dataset(definition: HubSource, data: Path | None) -> Dataset:
    """The dataset, from the data folder where one is given, else from the hub.

    Raises:
        AttnbenchError: where it is not there or damaged; the message says how to get it.
    """
    folder = None if data is None else data / definition.folder
    if folder is not None and not folder.is_dir():
        raise AttnbenchError(
            f"no data for {definition.hub}: {folder} is not a folder; put the hub's Parquet files "
            f"or a folder per class there, or leave --data out to load it from the hub"
            + (f". {definition.access}" if definition.access else "")
        )
    by_class = None if folder is None else _folder_of_classes(folder, definition.split)
    if by_class is not None:
        classes, labels, encoded = _open_folder(by_class)
    else:
        classes, labels, encoded = _open_hub(definition, folder)
    order = np.argsort(labels, kind="stable")
    return Dataset(
        name=f"{definition.folder}-{definition.split}",
        classes=WNIDS if len(classes) == len(WNIDS) else classes,
        labels=labels[order],
        encoded=lambda row: encoded(int(order[row])),
    )


_Opened = tuple[tuple[str, ...], NDArray[np.int64], Callable[[int], bytes]]


def _folder_of_classes(folder: Path, split: str) -> Path | None:
    """Where the class folders of a split are, None where the folder holds Parquet instead."""
    # no deeper than a hub dataset has them: ImageNet has 1.3 million files below
    if any(next(folder.glob(pattern), None) for pattern in ("*.parquet", "*/*.parquet")):
        return None
    names = [split, *(["val"] if split == "validation" else [])]
    with_split = [folder / name for name in names if (folder / name).is_dir()]
    return with_split[0] if with_split else folder


def _open_folder(folder: Path) -> _Opened:
    classes = tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir()))
    files = [
        sorted(file for file in (folder / name).iterdir() if file.suffix.lower() in _PICTURES)
        for name in classes
    ]
    labels = np.repeat(np.arange(len(classes)), [len(each) for each in files])
    if len(labels) == 0:
        raise AttnbenchError(
            f"{folder} holds neither Parquet files nor a folder of pictures per class"
        )
    paths = [path for each in files for path in each]
    return classes, labels, lambda row: paths[row].read_bytes()


def _open_hub(definition: HubSource, folder: Path | None) -> _Opened:
    import datasets

    datasets.disable_progress_bars()
    try:
        table = datasets.load_dataset(
            definition.hub if folder is None else str(folder),
            definition.config if folder is None else None,
            split=definition.split,
            revision=definition.revision if folder is None else None,
        )
        names = getattr(table.features[definition.label], "names", None)
        labels = np.asarray(table.with_format("numpy")[definition.label][:], dtype=np.int64)
        pictures = table.cast_column(definition.image, datasets.Image(decode=False))
        # To ask the dataset for a row would take longer than to normalise the picture in it.
        column = pictures.data.column(definition.image)
    except Exception as error:  # the library raises dozens of kinds, for all of which the user
        where = definition.hub if folder is None else folder  # needs to know just this much
        raise AttnbenchError(
            f"cannot load {where}, split {definition.split}: {type(error).__name__}: "
            f"{str(error)[:300]}; give a folder that holds `{definition.folder}` with --data DIR"
            + (f". {definition.access}" if definition.access else "")
        ) from None

    def encoded(row: int) -> bytes:
        stored: dict[str, Any] = column[row].as_py()
        return stored["bytes"] or Path(stored["path"]).read_bytes()

    return tuple(names or (str(i) for i in range(int(labels.max()) + 1))), labels, encoded
