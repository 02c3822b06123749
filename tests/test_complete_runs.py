"""Runs whose records all exist need neither torch nor workers."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import attnbench
from attnbench.backbones import fingerprint, load
from attnbench.backbones.shipped import SHIPPED
from attnbench.shipped_weights import shipped_fingerprint

pytestmark = pytest.mark.usefixtures("quick_fork_servers")


@pytest.mark.parametrize("name", SHIPPED)
def test_the_fingerprint_without_torch_is_that_of_the_network(name: str) -> None:
    assert shipped_fingerprint(f"shipped/{name}") == fingerprint(load(f"shipped/{name}"))


def test_other_backbones_have_no_such_fingerprint() -> None:
    assert shipped_fingerprint("torchvision/vgg16") is None
    assert shipped_fingerprint("shipped/unknown") is None


def test_a_second_run_gives_the_same_rows_without_torch(tmp_path: Path) -> None:
    tasks = ["noisy-mnist", "cifar-ssl"]
    names = ["none", "bias_only"]
    first = attnbench.evaluate(names, tasks=tasks, records=tmp_path)
    code = f"""
    import sys
    from pathlib import Path
    import attnbench
    records = Path({str(tmp_path)!r})
    frame = attnbench.evaluate({names!r}, tasks={tasks!r}, records=records)
    assert "torch" not in sys.modules, "torch was imported"
    print(frame.to_json(orient="records"))
    """
    # `none` and `bias_only` do not apply to `cifar-ssl`. Such records need not run again either.
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(first.to_json(orient="records"))
    # If one record is missing, all is as usual.
    next(tmp_path.glob("mini/noisy-mnist/none@*.json")).unlink()
    again = attnbench.evaluate(names, tasks=tasks, records=tmp_path)
    assert again["d_prime"].equals(first["d_prime"])
