"""Pictures listed by Parquet files, by a CSV, or by the hub."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from picture_files import (
    counts_of,
    encoded_picture,
    hub_source,
    names_of,
    own_source,
    write_classes,
    write_parquet,
    write_picture,
)

from attnbench.errors import AttnbenchError

PETS = {"cat": 6, "dog": 4}


pytestmark = pytest.mark.usefixtures("cache")


@pytest.mark.parametrize(
    "file",
    [
        "train.parquet",
        "data/train-00000-of-00001.parquet",
        "default/train/0000.parquet",
        "train/0000.parquet",
        "train-00000-of-00001-0f3c.parquet",
        "pets_train_v2.parquet",
    ],
)
def test_the_split_of_a_parquet_file_is_recognised(tmp_path: Path, file: str) -> None:
    write_parquet(tmp_path / "pets" / file, [0, 1, 1])
    write_parquet(tmp_path / "pets" / file.replace("train", "test"), [0], first=50)
    assert counts_of(hub_source(tmp_path, "train", config="full")) == {"cat": 1, "dog": 2}
    source = own_source(tmp_path / "pets", "test")
    assert counts_of(source) == {"cat": 1, "dog": 0}
    assert names_of(source) == [f"{file.replace('train', 'test')}:0"]


@pytest.mark.parametrize(
    ("kind", "labels"),
    [
        ("class label", [0, -1, 1, -1, 1]),
        ("int64", [0, None, 1, -1, 1]),
        ("string", ["cat", None, "dog", "", "dog"]),
    ],
)
def test_pictures_without_a_label_are_left_out_and_counted(
    tmp_path: Path, kind: str, labels: list[Any]
) -> None:
    label_type = None if kind == "class label" else datasets.Value(kind)
    write_parquet(tmp_path / "pets" / "train.parquet", labels, label_type)
    for source in (own_source(tmp_path / "pets"), hub_source(tmp_path, "train")):
        assert sorted(counts_of(source).values()) == [1, 2]
        assert "2 of 5 pictures" in source.notes[0] and "no label" in source.notes[0]


def test_the_error_for_a_missing_column_lists_the_columns(tmp_path: Path) -> None:
    write_parquet(tmp_path / "pets" / "train.parquet", [0, 1])
    with pytest.raises(AttnbenchError, match=r"no column 'img'; its columns are image, label"):
        own_source(tmp_path / "pets", image="img")
    (tmp_path / "pets.csv").write_text("name;class\na.png;cat\n")
    with pytest.raises(AttnbenchError, match=r"no column 'file'; its columns are name;class"):
        own_source(tmp_path / "pets.csv")


def test_a_parquet_file_may_be_named_and_may_come_from_pandas(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"image": [encoded_picture(seed) for seed in range(3)], "label": ["a/b", None, "cat"]}
    )
    frame.to_parquet(tmp_path / "pets.parquet")
    source = own_source(tmp_path / "pets.parquet")
    assert counts_of(source) == {"a/b": 1, "cat": 1}
    assert names_of(source) == ["pets.parquet:0", "pets.parquet:2"]
    assert source.load([1])[0].shape == (3, 24, 20)
    (tmp_path / "pets.zip").write_bytes(b"")
    with pytest.raises(AttnbenchError, match="neither a folder nor a CSV or Parquet file"):
        own_source(tmp_path / "pets.zip")


def test_a_row_without_a_picture_is_an_error_that_names_it(tmp_path: Path) -> None:
    """A path in place of a picture is not followed: it may lead anywhere."""
    outside = write_picture(tmp_path / "outside.png", 1)
    pictures = [{"bytes": None, "path": str(outside)}, {"bytes": None, "path": None}, None]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    table = pa.table({"image": pictures, "label": ["a", "b", "c"]}, schema=features.arrow_schema)
    pq.write_table(table, tmp_path / "pets.parquet")
    source = own_source(tmp_path / "pets.parquet")
    reasons = ("has only the path", "has no picture", "has no picture")
    for row, reason in enumerate(reasons):
        with pytest.raises(AttnbenchError, match=rf"pets\.parquet, row {row}.*{reason}"):
            source.load([row])


def test_without_a_network_a_hub_data_set_fails_at_once_in_one_line(tmp_path: Path) -> None:
    code = (
        "import time\n"
        "from attnbench.errors import AttnbenchError\n"
        "from attnbench.stimuli.opening import open_dataset\n"
        "from attnbench.tasks import HubSource\n"
        "import datasets, huggingface_hub\n"
        "started = time.monotonic()\n"
        "try:\n"
        "    open_dataset(HubSource(kind='hub', hub='some/pets', folder='p', split='train'), None)\n"
        "except AttnbenchError as error:\n"
        "    print(error)\n"
        "assert time.monotonic() - started < 8\n"
    )
    environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert len(done.stdout.splitlines()) == 1 and "pass --data DIR" in done.stdout


def test_a_csv_lists_files_labels_and_splits(tmp_path: Path) -> None:
    write_classes(tmp_path / "pictures", {"one": 4})
    names = ["one/000.png", "one/001.png", "one/002.png", "one/003.png"]
    labels = ["Bär", "dog", "", "dog"]
    rows = zip(names, labels, ["train", "test", "train", "train"], strict=True)
    lines = ["name,label,split", *(f"{name},{label},{split}" for name, label, split in rows)]
    file = tmp_path / "pictures" / "list.csv"
    file.write_text("\n".join(lines), encoding="utf-8-sig")
    source = own_source(tmp_path / "pictures", "train", file="name")
    assert counts_of(source) == {"Bär": 1, "dog": 1} and "1 of 3" in source.notes[0]
    assert names_of(own_source(file, "test", file="name")) == ["one/001.png"]
    with pytest.raises(AttnbenchError, match="no split 'dev'; its splits are train, test"):
        own_source(file, "dev", file="name")


@pytest.mark.parametrize(
    "entry", ["gone.png", "../outside.png", "/etc/hosts", "cat", "cat/000.png"]
)
def test_a_csv_entry_that_is_wrong_is_named(tmp_path: Path, entry: str) -> None:
    write_classes(tmp_path / "pets", PETS)
    write_picture(tmp_path / "outside.png", 1)
    (tmp_path / "pets" / "list.csv").write_text(f"file,label\ncat/000.png,cat\n{entry},dog\n")
    with pytest.raises(
        AttnbenchError, match=r"entry 2 of .*list\.csv, .*(not a file|outside|twice)"
    ):
        own_source(tmp_path / "pets")


def test_a_csv_in_another_encoding_is_an_error(tmp_path: Path) -> None:
    write_classes(tmp_path, PETS)
    (tmp_path / "list.csv").write_bytes("file,label\ncat/000.png,B\xe4r\n".encode("latin-1"))
    with pytest.raises(AttnbenchError, match=r"list\.csv as a CSV in UTF-8"):
        own_source(tmp_path)
