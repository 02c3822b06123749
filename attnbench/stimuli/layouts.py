"""How a folder of pictures is laid out: its splits, and what it takes to read them."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnbench.errors import AttnbenchError
from attnbench.stimuli.listing import PICTURE_SUFFIXES, Listing, list_folder, walk
from attnbench.stimuli.splits import is_split_name
from attnbench.stimuli.stores import FileStore, PictureStore, writable

# Folders of Parquet files that do not name a configuration.
_NEUTRAL_FOLDERS = ("", "data", "default")
_UNDIVIDED = (
    ": it has no sub-folders such as train and test, so all of its pictures count as train. Take "
    'slices (train[:50%], train[50%:]) or, with kind = "folder", write '
    "split = { adapt = 0.5, test = 0.5, seed = 0 }"
)


@dataclass(frozen=True)
class Contents:
    """The pictures of one or more whole splits, in the data's own order.

    Attributes:
        store: their bytes and names.
        classes: the names of the classes.
        labels: the class index of every picture, int64 `[N]`; -1 for a picture without a label.
        splits: the numbers of each split's pictures.
        notes: what was left out, as sentences for people.
    """

    store: PictureStore
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    splits: dict[str, range]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """Where the splits of a folder are.

    Attributes:
        splits: the names of the splits.
        read: reads the splits that are named.
        hint: what an error adds about a split that is not there.
    """

    splits: tuple[str, ...]
    read: Callable[[Sequence[str]], Contents] = field(repr=False)
    hint: str = ""


def find_parquet_files(folder: Path, config: str | None) -> dict[str, list[Path]]:
    """Return the Parquet files of each split of a folder, as on the Hugging Face hub.

    They may lie in the folder, in a folder such as `data`, in one per split or configuration, or in
    `CONFIG/SPLIT`, as in the hub's `refs/convert/parquet`. A split is named by its folder or else by
    the file, as in `train-00000-of-00002.parquet`.

    Args:
        folder: the folder.
        config: the configuration, if the task names one that is not a folder in `folder`.

    Returns:
        The files by split. Empty if there are none.

    Raises:
        AttnbenchError: if there are several configurations to choose from, or not the one wanted.
    """
    top = list_folder(folder, folder)
    by_configuration: dict[str, dict[str, list[Path]]] = {}

    def add(listing: Listing, configuration: str, split: str | None) -> None:
        for file in listing.with_suffix(".parquet"):
            splits = by_configuration.setdefault(configuration, {})
            splits.setdefault(split or split_of_file(file), []).append(file)

    add(top, "", None)
    for name in top.folders:
        inner = top.inside(name, folder)
        if is_split_name(name):
            add(inner, "", name)
            continue
        add(inner, name, None)
        # No deeper search: in a folder per class it would visit every picture of every split.
        for split in filter(is_split_name, inner.folders):
            add(inner.inside(split, folder), name, split)
    if not by_configuration:
        return {}
    return by_configuration[_only_configuration(folder, config, list(by_configuration))]


def split_of_file(file: Path) -> str:
    """Return the split that the name of a Parquet file gives, or `train`."""
    if shard := re.match(r"(.+?)-\d{5}-of-\d{5}", file.stem):
        return shard[1]
    return next(filter(is_split_name, re.findall(r"[A-Za-z]+", file.stem)), "train")


def _only_configuration(folder: Path, config: str | None, found: Sequence[str]) -> str:
    """Return the configuration to read, of those in a folder that has no folder called `config`."""
    if len(found) == 1 and (config is None or found[0] in _NEUTRAL_FOLDERS):
        return found[0]
    names = ", ".join(name or "files directly in it" for name in found)
    if config is not None:
        raise AttnbenchError(f"{folder} has no configuration {config!r}; it holds {names}")
    raise AttnbenchError(
        f"{folder} holds several configurations of a data set ({names}), and would show pictures more "
        "than once; name one in the task (config = …), or the folder of one"
    )


def class_folders(folder: Path, config: str | None, wanted: Sequence[str]) -> Layout:
    """Return the layout of folders of pictures: `CLASS/…` or `SPLIT/CLASS/…`.

    All pictures below the folder of a class belong to the class. A folder that holds nothing but one
    other folder, as unpacked archives often do, stands for that folder.

    Args:
        folder: the folder.
        config: the configuration, if the task names one that is not a folder in `folder`.
        wanted: the names of the splits that the task reads.

    Raises:
        AttnbenchError: if there are several configurations to choose from, or not the one wanted.
    """
    top = list_folder(folder, folder)
    while True:
        inner = {name: top.inside(name, folder) for name in top.folders}
        # A class may be called "train", but then its folder holds pictures and not classes.
        nested = [
            name for name, listing in inner.items() if listing.folders and not listing.pictures
        ]
        if any(is_split_name(name) or name in wanted for name in nested):
            return _split_layout(folder, top, nested)
        configurations = [name for name in nested if _holds_splits(inner[name], folder)]
        if configurations:
            top = inner[_only_configuration(top.path, config, configurations)]
        elif len(nested) == len(top.folders) == 1 and not top.pictures:
            top = inner[nested[0]]
        else:
            break
    return Layout(("train",), lambda _: _read(folder, {"train": top.path}), _UNDIVIDED)


def _holds_splits(listing: Listing, root: Path) -> bool:
    """Return whether a folder has the form `SPLIT/CLASS/…`."""
    splits = (listing.inside(name, root) for name in filter(is_split_name, listing.folders))
    return any(split.folders and not split.pictures for split in splits)


def _split_layout(root: Path, top: Listing, splits: Sequence[str]) -> Layout:
    others = [name for name in top.folders if name not in splits]
    note = (
        f"{root} is divided into {', '.join(splits)}, so its other folders are left out "
        f"({', '.join(others)})"
    )

    def read(wanted: Sequence[str]) -> Contents:
        contents = _read(root, {name: top.path / name for name in wanted})
        return replace(contents, notes=(*contents.notes, note)) if others else contents

    return Layout(tuple(splits), read)


def _read(root: Path, folders: dict[str, Path]) -> Contents:
    """Read the folders of classes of some splits."""
    class_names: list[str] = []
    folders_of_pictures: list[str] = []
    files: list[str] = []
    splits: dict[str, range] = {}
    other: Counter[str] = Counter()
    loose = 0
    known_classes: set[str] = set()
    for split, folder in folders.items():
        start = len(files)
        listing = list_folder(folder, root)
        loose += len(listing.pictures)
        for name in listing.folders:
            pictures = list(walk(folder / name, root, other))
            # File systems store accents in different ways; task files use the composed form.
            class_name = writable(unicodedata.normalize("NFC", name))
            known_classes.add(class_name)
            class_names += [class_name] * len(pictures)
            folders_of_pictures += [str((folder / name).relative_to(root))] * len(pictures)
            files += pictures
        splits[split] = range(start, len(files))
    notes = []
    if loose:
        notes.append(f"left out as they are in no class's folder: {loose} pictures of {root}")
    if other:
        suffixes = ", ".join(sorted(other))
        notes.append(
            f"left out as their format is not read ({suffixes}): {other.total()} pictures of {root}"
        )
    if not files:
        raise AttnbenchError(
            f"found no pictures in {', '.join(map(str, folders.values()))}; put Parquet files, a CSV "
            f"of files and labels, or one folder of pictures ({', '.join(PICTURE_SUFFIXES)}) per "
            f"class there{'; ' * bool(notes)}{'; '.join(notes)}"
        )
    classes = tuple(sorted(known_classes))
    index = {name: number for number, name in enumerate(classes)}
    labels = np.array([index[name] for name in class_names], dtype=np.int64)
    return Contents(
        FileStore(root, folders_of_pictures, files), classes, labels, splits, tuple(notes)
    )
