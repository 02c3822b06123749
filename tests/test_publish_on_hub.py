"""`attnbench publish --hub`, against a server on this machine that answers as the hub does."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest

from attnbench.records.outcome import scores_table
from attnbench.records.record import Record
from attnbench.records.store import RecordStore
from attnbench.records.verification import path_beside

SCORES = scores_table("cat", ["1", "2"], np.array([True, False]), np.array([1.5, -0.25]))
NAME = "someone/board"
MakeRecord = Callable[..., Record]


@dataclass
class FakeHub:
    """What was uploaded to the server.

    Attributes:
        address: of the server.
        repositories: the settings that each repository was created with, by kind and name.
        files: the files of each repository.
        token: the token that it accepts.
    """

    address: str = ""
    repositories: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    token: str = "hf_good"

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Return the status and the JSON that the hub answers with."""
        parts = path.partition("?")[0].removeprefix("/api/").split("/")
        match method, parts:
            case "POST", ["repos", "create"]:
                wanted = json.loads(body)
                key = f"{wanted['type']}s/{wanted['organization']}/{wanted['name']}"
                url = f"{self.address}/{key}"
                if key in self.repositories:
                    return 409, {"error": "You already created this repo", "url": url}
                self.repositories[key] = wanted
                self.files[key] = {".gitattributes": b""}
                return 200, {"url": url}
            case "POST", ["validate-yaml"]:
                return 200, {"errors": [], "warnings": []}
            case "POST", [kind, owner, name, "preupload", "main"]:
                listed = json.loads(body)["files"]
                modes = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
                return 200, {"files": [{"path": each["path"], **modes} for each in listed]}
            case "POST", [kind, owner, name, "commit", "main"]:
                files = self.files[f"{kind}/{owner}/{name}"]
                for line in map(json.loads, body.splitlines()):
                    match line["key"]:
                        case "file":
                            files[line["value"]["path"]] = base64.b64decode(
                                line["value"]["content"]
                            )
                        case "deletedFile":
                            del files[line["value"]["path"]]
                commit = {
                    "commitUrl": f"{self.address}/{kind}/{owner}/{name}/commit/1",
                    "commitOid": "1" * 40,
                }
                return 200, {**commit, "hookOutput": "", "pullRequestUrl": None}
            case "GET", [kind, owner, name, "tree", "main", *_]:
                files = self.files[f"{kind}/{owner}/{name}"]
                return 200, [
                    {"type": "file", "path": path, "size": len(content), "oid": "0"}
                    for path, content in files.items()
                ]
            case "GET", [kind, owner, name, *_]:
                return 200, {"id": f"{owner}/{name}", "sha": "1" * 40, "siblings": []}
        return 404, {"error": f"no {method} {path}"}


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    fake = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Authorization") != f"Bearer {fake.token}":
                status, content = 401, {"error": "Invalid username or password."}
            else:
                status, content = fake.answer(self.command, self.path, body)
            reply = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        do_GET = do_POST = handle_any

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield fake
    server.shutdown()
    thread.join()
    server.server_close()


def publish(
    folder: Path, hub: str, token: str = "hf_good", name: str = NAME
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_ENDPOINT": hub, "HF_TOKEN": token, "HF_HOME": str(folder)}
    environment.pop("HF_HUB_OFFLINE", None)
    line = [sys.executable, "-m", "attnbench", "publish", "--hub", name]
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def published(tmp_path: Path, make_record: MakeRecord) -> RecordStore:
    store = RecordStore(tmp_path / "published")
    store.save(make_record(), SCORES)
    store.save(make_record(submission="other"), SCORES)
    return store


def test_records_tables_and_site_are_uploaded(
    hub: FakeHub, published: RecordStore, tmp_path: Path
) -> None:
    done = publish(tmp_path, hub.address)
    assert done.returncode == 0, done.stderr
    assert f"datasets/{NAME}" in done.stdout and f"spaces/{NAME}" in done.stdout
    assert hub.repositories[f"spaces/{NAME}"]["sdk"] == "static"
    dataset, space = hub.files[f"datasets/{NAME}"], hub.files[f"spaces/{NAME}"]
    for path in published.paths():
        assert dataset[str(path.relative_to(tmp_path))] == path.read_bytes()
    assert b"sdk: static" in space["README.md"] and b"other" in space["index.html"]

    # What was uploaded loads in one line each.
    folder = tmp_path / "downloaded"
    for name, content in dataset.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    frame = pd.read_parquet(folder / "results.parquet")
    assert set(frame["submission"]) == {path.stem.split("@")[0] for path in published.paths()}
    loaded = datasets.load_dataset(str(folder), "results", cache_dir=str(tmp_path / "cache"))
    assert list(loaded["train"]["submission"]) == frame["submission"].tolist()


def test_a_second_upload_removes_what_is_no_longer_published(
    hub: FakeHub, published: RecordStore, tmp_path: Path
) -> None:
    assert publish(tmp_path, hub.address).returncode == 0
    (removed,) = (path for path in published.paths() if path.name.startswith("other"))
    for file in removed.parent.glob(f"{removed.stem}.*"):
        file.unlink()
    done = publish(tmp_path, hub.address)
    assert done.returncode == 0, done.stderr
    dataset, space = hub.files[f"datasets/{NAME}"], hub.files[f"spaces/{NAME}"]
    assert str(removed.relative_to(tmp_path)) not in dataset
    assert not any("methods/other" in name for name in space)
    assert ".gitattributes" in dataset  # the hub's own file stays


def test_a_link_to_a_private_file_is_not_uploaded(
    hub: FakeHub, published: RecordStore, tmp_path: Path
) -> None:
    private = tmp_path / "private.json"
    private.write_text('{"secret": 1}')
    path_beside(next(iter(published.paths()))).symlink_to(private)
    publish(tmp_path, hub.address)
    assert not any(b"secret" in file for files in hub.files.values() for file in files.values())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"token": "hf_bad"}, "hf auth login"),
        ({"name": "no-owner"}, "OWNER/no-owner"),
        ({"name": "a b/c"}, "not the name of a repository"),
        ({"hub": "http://127.0.0.1:9"}, "cannot be reached"),
    ],
)
def test_what_goes_wrong_is_said_in_a_sentence(
    changes: dict[str, str],
    reason: str,
    hub: FakeHub,
    published: RecordStore,
    tmp_path: Path,
) -> None:
    done = publish(tmp_path, **{"hub": hub.address, **changes})
    assert done.returncode != 0 and reason in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) < 4


def test_nothing_published_is_said_in_a_sentence(hub: FakeHub, tmp_path: Path) -> None:
    done = publish(tmp_path, hub.address)
    assert done.returncode != 0 and "publish some records first" in done.stderr
    assert not hub.repositories
