"""The page "Your own images and networks": its commands, run in order on made-up pictures."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from picture_files import write_classes, write_picture
from PIL import Image
from torchvision.models import resnet18

from attnbench.commands.new_task import new_task
from attnbench.errors import AttnbenchError
from attnbench.text import printable
from tests.command_line import run as _attnbench

pytestmark = pytest.mark.usefixtures("quick_fork_servers")

PAGE = Path(__file__).parents[1] / "docs" / "own-data.md"
PETS = "records/own/pets"


def _photos(folder: Path, count: int) -> Path:
    """Write random pictures of three classes, so that every method makes errors."""
    return write_classes(folder, {"cat": count, "dog": count, "rabbit": count})


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_commands_of_the_page_work_in_order(tmp_path: Path) -> None:
    _photos(tmp_path / "photos", 8)
    torch.manual_seed(0)
    torch.save(resnet18(num_classes=3).state_dict(), tmp_path / "resnet18.pth")
    text = PAGE.read_text("utf-8")
    (network,) = re.findall(r"```toml\n(architecture.*?)```", text, re.DOTALL)
    # 64 pixels instead of 224, for speed.
    (tmp_path / "network.toml").write_text(network + "size = 64\n", encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    assert len(commands) == 8
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "attnbench"
        done = _attnbench(*arguments, folder=tmp_path)
        assert done.returncode == 0, f"{command}: {printable(done.stdout + done.stderr)}"
    for drawn in ("pets.png", "errors.png"):
        assert Image.open(tmp_path / drawn).size[0] > 500


def test_new_task_writes_a_task_that_runs(tmp_path: Path) -> None:
    _photos(tmp_path / "my photos", 8)
    created = _attnbench(
        "new-task", "pets", "--images", "my photos", "--in", "my tasks", folder=tmp_path
    )
    assert created.returncode == 0, created.stderr
    assert "attnbench evaluate attention --task 'my tasks/pets.toml'" in created.stdout
    assert "cat: 4, 4" in created.stdout and "4 positives to adapt on are few" in created.stdout
    task = ("--task", "my tasks/pets.toml")
    run = _attnbench("evaluate", "last_layer", *task, "--json", folder=tmp_path)
    row = json.loads(run.stdout.splitlines()[0])
    assert (row["track"], row["task"], row["targets"]) == ("own", "pets", 3), run.stderr
    shown = _attnbench(
        "records",
        "show",
        f"{PETS}/last_layer@shipped-cifar-simclr@seed0@cpu.json",
        "--errors",
        "errors.png",
        *task,
        folder=tmp_path,
    )
    assert shown.returncode == 0, shown.stderr
    assert Image.open(tmp_path / "errors.png").size[0] > 500


def _refused(arguments: list[str], folder: Path, *expected: str) -> None:
    done = _attnbench("new-task", *arguments, folder=folder)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    for text in expected:
        assert text in done.stderr
    assert not list(folder.glob("*.toml"))


def test_new_task_names_a_damaged_picture_and_can_skip_it(tmp_path: Path) -> None:
    _photos(tmp_path / "photos", 8)
    (tmp_path / "photos" / "cat" / "3.png").write_bytes(b"")
    arguments = ["pets", "--images", "photos"]
    _refused(arguments, tmp_path, "3.png", "--skip-damaged")
    new_task("pets", tmp_path / "photos", skip_damaged=True, parent=tmp_path)
    assert "skip_damaged = true" in (tmp_path / "pets.toml").read_text("utf-8")


def test_new_task_refuses_a_copy_on_both_sides(tmp_path: Path) -> None:
    photos = _photos(tmp_path / "photos", 8)
    for name in "cat", "dog":
        for number in range(8):
            content = (photos / name / f"{number:03d}.png").read_bytes()
            (photos / name / f"copy of {number}.png").write_bytes(content)
    with pytest.raises(AttnbenchError, match="are the same picture"):
        new_task("pets", photos, parent=tmp_path)
    assert not (tmp_path / "pets.toml").exists()


def test_new_task_says_what_is_missing(tmp_path: Path) -> None:
    photos = _photos(tmp_path / "photos", 4)
    one_class = write_classes(tmp_path / "one", {"cat": 4})
    few = write_classes(tmp_path / "few", {"cat": 2, "dog": 2})
    for name, images, targets, expected in (
        ("pets", tmp_path / "nowhere", (), "nowhere"),
        ("pets", one_class, (), "only the class 'cat'"),
        ("pets", few, (), "too few pictures.*cat has 1 and 1"),
        ("pets", photos, ("cow",), "'cow'.*rabbit"),
        ("Pets!", photos, (), "lower-case"),
    ):
        with pytest.raises(AttnbenchError, match=expected):
            new_task(name, images, targets=targets, parent=tmp_path / "tasks")
    assert not (tmp_path / "tasks").exists()


def test_new_task_uses_the_splits_of_a_folder(tmp_path: Path) -> None:
    _photos(tmp_path / "photos" / "train", 4)
    for index, name in enumerate(("cat", "dog", "rabbit")):
        for number in range(3):
            write_picture(
                tmp_path / "photos" / "val" / name / f"{number}.png", 10000 + 10 * index + number
            )
    new_task("pets", tmp_path / "photos", parent=tmp_path / "tasks")
    text = (tmp_path / "tasks" / "pets.toml").read_text("utf-8")
    assert 'path = "../photos", split = "train"' in text
    assert 'path = "../photos", split = "val"' in text


def test_new_task_proposes_labels_and_applies_none(tmp_path: Path) -> None:
    _photos(tmp_path / "photos", 4)
    (tmp_path / "photos" / "cat").rename(tmp_path / "photos" / "church")
    new_task("pets", tmp_path / "photos", parent=tmp_path)
    text = (tmp_path / "pets.toml").read_text("utf-8")
    assert '# "church" = "n03028079"' in text and "\n[tracks.own.labels]" not in text
