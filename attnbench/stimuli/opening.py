"""Opening data sets: in the data folder, on the Hugging Face hub, or in a folder of one's own."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnbench.backbones.imagenet_names import as_wnids
from attnbench.backbones.sixteen import CATEGORIES, wnids_of_category
from attnbench.errors import AttnbenchError
from attnbench.stimuli import splits
from attnbench.stimuli.class_labels import find_class
from attnbench.stimuli.csv_files import csv_layout, find_csv
from attnbench.stimuli.damage import without_damaged
from attnbench.stimuli.datasets import Dataset
from attnbench.stimuli.hub import load_from_hub
from attnbench.stimuli.layouts import (
    Contents,
    Layout,
    class_folders,
    find_parquet_files,
    split_of_file,
)
from attnbench.stimuli.stores import writable
from attnbench.stimuli.tables import (
    UNLABELLED,
    Columns,
    explained,
    read_parquet,
)
from attnbench.tasks import Division, FolderSource, HubSource

_MAX_NAMED = 5


def open_dataset(definition: HubSource, data: Path | None) -> Dataset:
    """Open a data set in the data folder, or on the hub if there is no data folder.

    Args:
        definition: the source in the task.
        data: the data folder, or None to load from the hub.

    Raises:
        AttnbenchError: if the data set is missing or damaged. The message says how to get it.
    """
    columns = Columns(definition.image, definition.label)
    name = f"{definition.folder}-{definition.split}"
    try:
        if data is None and not definition.hub:
            raise AttnbenchError(
                f"{definition.folder} is not on the hub: pass --data DIR with a folder "
                f"`{definition.folder}` in it"
            )
        if data is None:
            contents = load_from_hub(definition, columns)
            numbers = _select(contents, splits.parse(definition.split), definition.by_class)
        else:
            folder = data / definition.folder
            if not folder.is_dir():
                raise AttnbenchError(
                    f"no data for {definition.hub or definition.folder}: there is no folder {folder}; "
                    "put its Parquet files or one folder of pictures per class there"
                    + ", or omit --data to load from the hub"
                    * bool(definition.hub)
                )
            layout = _find_layout(folder, definition.config, columns, definition.split)
            contents, numbers = _read_split(
                layout, folder, definition.split, by_class=definition.by_class
            )
    except AttnbenchError as error:
        access = f". {definition.access}" if definition.access else ""
        raise AttnbenchError(f"{error}{access}") from None
    dataset = _labelled(name, contents, numbers, definition.split)
    # The hub's ImageNet has English class names. Tasks and backbones go by WordNet ids.
    dataset = replace(dataset, classes=as_wnids(dataset.classes, name))
    if definition.classes:
        dataset = _only_classes(dataset, definition.classes)
    if definition.categories is not None:
        dataset = _merged(dataset, {name: wnids_of_category(name) for name in CATEGORIES})
    return _with_file_names(dataset) if definition.file_names else dataset


def open_folder(definition: FolderSource, part: str) -> Dataset:
    """Open a folder of one's own pictures.

    Args:
        definition: the source in the task.
        part: `adapt` or `test`, which matters if the task divides the folder.

    Raises:
        AttnbenchError: if the folder is missing, or a picture in it cannot be read and is not to be
            skipped.
    """
    path, split = _existing(definition), definition.split
    name = writable(path.stem if path.is_file() else path.resolve().name)
    columns = Columns(definition.image, definition.label, definition.file)
    if not isinstance(split, Division):
        layout = _find_layout(path, None, columns, split or "")
        contents, numbers = _read_split(layout, path, split)
    else:
        layout = _find_layout(path, None, columns, "")
        if len(layout.splits) > 1:
            raise AttnbenchError(
                f"{path} is divided already, into {', '.join(layout.splits)}; name one of these as "
                f"split in the task, not the table {split.model_dump()}"
            )
        contents, numbers = _read_split(layout, path, None)
        names = [contents.store.name_in_class(number) for number in numbers.tolist()]
        shares = {"adapt": split.adapt, "test": split.test}
        numbers = splits.divide(contents.labels, names, shares, split.seed)[part]
    # Two folders may have the same name.
    cache_name = f"{name[:60]}-{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:12]}"
    dataset = _labelled(name, contents, numbers, str(split))
    dataset = replace(dataset, cache_name=cache_name, named_by_file=True)
    return without_damaged(dataset) if definition.skip_damaged else dataset


def find_splits(definition: FolderSource) -> tuple[str, ...]:
    """Return the names of the splits of a folder of one's own, `("train",)` if it has none.

    Args:
        definition: the source in the task. Its own split does not matter.

    Raises:
        AttnbenchError: if the folder is missing or holds several configurations.
    """
    columns = Columns(definition.image, definition.label, definition.file)
    return _find_layout(_existing(definition), None, columns, "").splits


def _existing(definition: FolderSource) -> Path:
    path = definition.folder
    if not path.exists():
        raise AttnbenchError(
            f"there is no folder or file {path}; the task says path = {definition.path!r}, which is "
            "relative to the folder of the task file"
        )
    return path


def _find_layout(path: Path, config: str | None, columns: Columns, split: str) -> Layout:
    """Return the layout of a folder, of its sub-folder called like `config`, or of a file."""
    if path.is_file():
        if path.suffix.lower() == ".csv":
            return csv_layout(path, columns)
        if path.suffix.lower() == ".parquet":
            return _parquet_layout(path.parent, {split_of_file(path): [path]}, columns)
        raise AttnbenchError(f"{path} is neither a folder nor a CSV or Parquet file")
    if config is not None and (path / config).is_dir():
        path, config = path / config, None
    if csv_file := find_csv(path, columns):
        return csv_layout(csv_file, columns)
    if files := find_parquet_files(path, config):
        return _parquet_layout(path, files, columns)
    return class_folders(path, config, [name for name, _ in splits.parse(split)])


def _parquet_layout(root: Path, files: Mapping[str, Sequence[Path]], columns: Columns) -> Layout:
    def read(names: Sequence[str]) -> Contents:
        with explained(f"{root}, split {', '.join(names)}", "fetch its Parquet files again"):
            return read_parquet({name: files[name] for name in names}, root, columns)

    return Layout(tuple(files), read)


def _read_split(
    layout: Layout, folder: Path, split: str | None, *, by_class: bool = False
) -> tuple[Contents, NDArray[np.int64]]:
    """Return the splits that an expression names, and the numbers of the pictures it selects."""
    parts = splits.parse(split) if split is not None else [(name, "") for name in layout.splits]
    parts = [
        (splits.find(name, layout.splits, folder, layout.hint), slice_) for name, slice_ in parts
    ]
    contents = layout.read(list(dict.fromkeys(name for name, _ in parts)))
    return contents, _select(contents, parts, by_class)


def _select(
    contents: Contents, parts: Sequence[tuple[str, str]], by_class: bool
) -> NDArray[np.int64]:
    """Return the numbers of the pictures in slices of splits, or in slices of their classes."""
    selected = []
    for name, slice_ in parts:
        numbers = np.asarray(contents.splits[name], dtype=np.int64)
        labels = contents.labels[numbers]
        groups = (
            [numbers[labels == label] for label in np.unique(labels)] if by_class else [numbers]
        )
        for group in groups:
            positions = splits.positions_of_slice(slice_, len(group))
            selected.append(group[positions.start : positions.stop])
    return np.concatenate(selected)


def _only_classes(dataset: Dataset, classes: Sequence[str]) -> Dataset:
    """Return the pictures of some classes, which are numbered in the order given."""
    names = tuple(dict.fromkeys(classes))
    indices = [
        find_class(name, dataset.classes, dataset.name, synonyms=False, what="classes:")
        for name in names
    ]
    rows = np.concatenate([np.flatnonzero(dataset.labels == index) for index in indices])
    sizes = [int((dataset.labels == index).sum()) for index in indices]
    labels = np.repeat(np.arange(len(names)), sizes)
    return replace(dataset, classes=names, labels=labels, numbers=dataset.numbers[rows])


def _merged(dataset: Dataset, categories: Mapping[str, Sequence[str]]) -> Dataset:
    """Return the pictures of classes that belong to a category, with the categories as classes.

    Args:
        dataset: the data set.
        categories: the classes of each category. Categories without pictures are left out.
    """
    members = {name: np.isin(dataset.classes, names) for name, names in categories.items()}
    rows = {name: np.flatnonzero(is_member[dataset.labels]) for name, is_member in members.items()}
    rows = {name: found for name, found in rows.items() if len(found)}
    if not rows:
        raise AttnbenchError(f"no class of {dataset.name} belongs to {', '.join(categories)}")
    return replace(
        dataset,
        classes=tuple(rows),
        labels=np.repeat(np.arange(len(rows)), [len(found) for found in rows.values()]),
        numbers=dataset.numbers[np.concatenate(list(rows.values()))],
    )


def _with_file_names(dataset: Dataset) -> Dataset:
    """Return a data set whose pictures records name by their files, each of which has its own."""
    named = replace(dataset, file_names=True)
    names = Counter(map(named.image_name, range(len(named.labels))))
    name, count = names.most_common(1)[0]
    if count > 1 or any(name.endswith("/") for name in names):
        raise AttnbenchError(
            f"{dataset.name} does not give each picture of a class a file name of its own ({name!r}), "
            "by which the task identifies it; fetch the data set again"
        )
    return named


def _labelled(name: str, contents: Contents, numbers: NDArray[np.int64], split: str) -> Dataset:
    """Return the data set of the selected pictures that have a label, sorted by class.

    The order within a class stays. So pictures, and with them their names and the random draws of
    episodes, are the same whether the data lies in Parquet files or in folders.
    """
    labels = contents.labels[numbers]
    if len(labels) == 0:
        raise AttnbenchError(f"{name} has no pictures: the split {split} selects none")
    is_labelled = labels != UNLABELLED
    unlabelled = int((~is_labelled).sum())
    if unlabelled == len(labels):
        raise AttnbenchError(f"none of the {len(labels)} pictures of {name} has a label")
    notes = list(contents.notes)
    if unlabelled:
        notes.append(
            f"{unlabelled} of {len(labels)} pictures of {name} have no label and are left out"
        )
    numbers, labels = numbers[is_labelled], labels[is_labelled]
    lost = sorted(set(contents.labels.tolist()) - set(labels.tolist()) - {UNLABELLED})
    if lost and "[" in split:
        names = ", ".join(contents.classes[label] for label in lost[:_MAX_NAMED])
        notes.append(
            f"the slice {split} has no pictures of {len(lost)} classes ({names}"
            f"{', …' * (len(lost) > _MAX_NAMED)}), as pictures in folders are sorted by class"
        )
    order = np.argsort(labels, kind="stable")
    return Dataset(
        name=name,
        classes=contents.classes,
        labels=labels[order],
        store=contents.store,
        numbers=numbers[order],
        cache_name=name,
        notes=tuple(notes),
    )
