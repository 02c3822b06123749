"""Data sets of picture files: from the Hugging Face hub, or from a folder in its place."""

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
from attnbench.stimuli.preprocessing import Picture
from attnbench.tasks import HubSource

_PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Dataset:
    """Encoded pictures with labels, sorted by class and, within a class, in the data's own order.

    Attributes:
        name: the prefix of its pictures' names in records, before class and number.
        classes: the names of the classes.
        labels: the class index of every picture, int64 `[N]`, ascending.
        encoded: returns the bytes of the picture file in a row.
    """

    name: str
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    encoded: Callable[[int], bytes]

    def load(self, rows: Sequence[int]) -> list[Picture]:
        """Return the pictures in these rows, uint8 RGB `[3, h, w]`, each of its own size.

        Raises:
            AttnbenchError: if a picture is damaged.
        """
        return [self.decode(row, self.encoded(row)) for row in rows]

    def decode(self, row: int, encoded: bytes) -> Picture:
        """Decode a picture to uint8 RGB `[3, h, w]`. Grey and CMYK pictures are converted.

        Args:
            row: the picture's row, for the error message.
            encoded: its bytes.

        Raises:
            AttnbenchError: if the picture is damaged.
        """
        try:
            with Image.open(io.BytesIO(encoded)) as picture:
                return np.asarray(picture.convert("RGB"), dtype=np.uint8).transpose(2, 0, 1)
        except (OSError, ValueError, SyntaxError) as error:
            label = int(self.labels[row])
            number = row - int(np.searchsorted(self.labels, label))
            raise AttnbenchError(
                f"cannot decode the picture {self.name}/{self.classes[label]}/{number} ({error}); "
                "fetch the data set again"
            ) from None


def open_dataset(definition: HubSource, data: Path | None) -> Dataset:
    """Open a data set in the data folder, or on the hub if there is no data folder.

    Args:
        definition: the source in the task.
        data: the data folder, or None to load from the hub.

    Raises:
        AttnbenchError: if the data set is missing or damaged. The message says how to get it.
    """
    folder = None if data is None else data / definition.folder
    if folder is not None and not folder.is_dir():
        raise AttnbenchError(
            f"no data for {definition.hub}: there is no folder {folder}; put the hub's Parquet "
            "files or one folder of pictures per class there, or omit --data to load from the hub"
            + (f". {definition.access}" if definition.access else "")
        )
    class_root = None if folder is None else _class_root(folder, definition.split)
    if class_root is not None:
        classes, labels, encoded = _open_class_folders(class_root)
    else:
        classes, labels, encoded = _open_hub_dataset(definition, folder)
    # Sorted by class and stable within a class: pictures, and so their names and the random draws of
    # episodes, are the same whether the data lies in Parquet files or in folders.
    order = np.argsort(labels, kind="stable")
    return Dataset(
        name=f"{definition.folder}-{definition.split}",
        # The hub's ImageNet has English class names. Tasks and backbones go by WordNet ids.
        classes=WNIDS if len(classes) == len(WNIDS) else classes,
        labels=labels[order],
        encoded=lambda row: encoded(int(order[row])),
    )


# Class names, the class index of every picture, and a function from a row to the picture's bytes.
_PictureTable = tuple[tuple[str, ...], NDArray[np.int64], Callable[[int], bytes]]


def _class_root(folder: Path, split: str) -> Path | None:
    """Return the folder that holds a split's class folders, or None if the data is in Parquet."""
    # Hub data sets keep Parquet files at most one level down. A recursive search would visit the
    # 1.3 million files of ImageNet.
    if any(next(folder.glob(pattern), None) for pattern in ("*.parquet", "*/*.parquet")):
        return None
    names = [split, *(["val"] if split == "validation" else [])]
    split_folders = [folder / name for name in names if (folder / name).is_dir()]
    return split_folders[0] if split_folders else folder


def _open_class_folders(root: Path) -> _PictureTable:
    classes = tuple(sorted(entry.name for entry in root.iterdir() if entry.is_dir()))
    files_by_class = [
        sorted(file for file in (root / name).iterdir() if file.suffix.lower() in _PICTURE_SUFFIXES)
        for name in classes
    ]
    labels = np.repeat(np.arange(len(classes)), [len(files) for files in files_by_class])
    if len(labels) == 0:
        raise AttnbenchError(
            f"found no pictures in {root}; it must hold Parquet files or one folder of "
            f"pictures ({', '.join(_PICTURE_SUFFIXES)}) per class"
        )
    paths = [path for files in files_by_class for path in files]
    return classes, labels, lambda row: paths[row].read_bytes()


def _open_hub_dataset(definition: HubSource, folder: Path | None) -> _PictureTable:
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
        # Rows are read from the Arrow column: indexing the dataset itself takes longer than
        # normalising the picture.
        column = pictures.data.column(definition.image)
    except Exception as error:  # `datasets` raises dozens of types; the user's remedy is the same
        location = definition.hub if folder is None else folder
        raise AttnbenchError(
            f"cannot load {location}, split {definition.split}: {type(error).__name__}: "
            f"{str(error)[:300]}; pass --data DIR with a folder `{definition.folder}` in it"
            + (f". {definition.access}" if definition.access else "")
        ) from None

    def encoded(row: int) -> bytes:
        stored: dict[str, Any] = column[row].as_py()
        return stored["bytes"] or Path(stored["path"]).read_bytes()

    return tuple(names or (str(i) for i in range(int(labels.max()) + 1))), labels, encoded
