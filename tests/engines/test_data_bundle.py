"""A data folder that travels: whole, once per machine."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from attnbench.engines.data_bundle import pack, unpack


def test_a_folder_arrives_as_it_was_and_is_fetched_once(tmp_path: Path) -> None:
    data = tmp_path / "data"
    contents = {
        "mnist/test.parquet": bytes(range(256)) * 10,
        "weights/a.safetensors": b"",
        "b": b"1",
    }
    for name, content in contents.items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(content)
    store: list[bytes] = []
    fetched: list[int] = []

    def put(piece: bytes) -> int:
        store.append(piece)
        return len(store) - 1

    def get(number: int) -> bytes:
        fetched.append(number)
        return store[number]

    parcel = pack(data, put=put, size=1000)
    assert max(map(len, store)) == 1000
    shelf = tmp_path / "shelf"
    folders: list[Path] = []
    threads = [
        threading.Thread(target=lambda: folders.append(unpack(parcel, shelf, get=get)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(folders)) == 1 and len(folders) == 4
    found = {p.relative_to(folders[0]).as_posix(): p for p in folders[0].rglob("*") if p.is_file()}
    assert {name: path.read_bytes() for name, path in found.items()} == contents
    assert sorted(fetched) == list(range(len(store)))
    (data / "b").write_bytes(b"2!")
    assert pack(data, put=put, size=1000).name != parcel.name


def test_a_parcel_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_bytes(b"content")
    parcel = pack(tmp_path / "data", put=bytes, size=100)

    def broken(piece: object) -> bytes:
        raise ConnectionError

    shelf = tmp_path / "shelf"
    with pytest.raises(ConnectionError):
        unpack(parcel, shelf, get=broken)
    assert [path for path in shelf.iterdir() if path.suffix != ".lock"] == []
    assert (unpack(parcel, shelf, get=bytes) / "file").read_bytes() == b"content"
