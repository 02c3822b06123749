"""Data bundles: a folder arrives unchanged, and each machine fetches it once."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from attnbench.engines.data_bundle import pack, unpack


def test_folder_arrives_unchanged_and_is_fetched_once(tmp_path: Path) -> None:
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

    def put(chunk: bytes) -> int:
        store.append(chunk)
        return len(store) - 1

    def get(number: int) -> bytes:
        fetched.append(number)
        return store[number]

    bundle = pack(data, put=put, chunk_bytes=1000)
    assert max(map(len, store)) == 1000
    parent = tmp_path / "unpacked"
    folders: list[Path] = []
    threads = [
        threading.Thread(target=lambda: folders.append(unpack(bundle, parent, get=get)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (folder,) = set(folders)
    assert len(folders) == 4
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    unpacked = {name: path.read_bytes() for name, path in files.items() if path.is_file()}
    assert unpacked == contents
    assert sorted(fetched) == list(range(len(store)))
    (data / "b").write_bytes(b"2!")
    assert pack(data, put=put, chunk_bytes=1000).name != bundle.name


def test_interrupted_unpacking_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_bytes(b"content")
    bundle = pack(tmp_path / "data", put=bytes, chunk_bytes=100)

    def fail(reference: object) -> bytes:
        raise ConnectionError

    parent = tmp_path / "unpacked"
    with pytest.raises(ConnectionError):
        unpack(bundle, parent, get=fail)
    assert [path for path in parent.iterdir() if path.suffix != ".lock"] == []
    assert (unpack(bundle, parent, get=bytes) / "file").read_bytes() == b"content"
