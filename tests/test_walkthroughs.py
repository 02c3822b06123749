"""The tutorials and the how-to pages, followed as a reader does; the notebooks, run as they are."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from documentation import notebooks, walkthrough

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def _with_commands(folder: str) -> list[Path]:
    """The pages of a folder that have commands to run."""
    paths = sorted((DOCS / folder).glob("*.md"))
    return [path for path in paths if list(walkthrough.steps(path.read_text("utf-8")))]


TUTORIALS, HOW_TO = _with_commands("tutorials"), _with_commands("how-to")
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
# Times, and the passes beside them, depend on the machine. Beside other work there are none, and a
# note says why.
_TIME = re.compile(r"\d[\d.,]* (?:ms|s)\b(?: +[\d.]+$)?", re.MULTILINE)
_NO_TIMES = re.compile(r"^–: no times, .*?(?=^Records?:|\Z)", re.MULTILINE | re.DOTALL)


def _words_and_numbers(output: str) -> tuple[list[str], list[float]]:
    text = _TIME.sub("", _NO_TIMES.sub("", output))
    numbers = [float(number.replace(",", "")) for number in _NUMBER.findall(text)]
    # Rules and columns are as wide as the numbers in them, and a number may lose its sign.
    return re.sub(r"[─–-]+", "", _NUMBER.sub("#", text)).split(), numbers


def _assert_same(shown: str, printed: str) -> None:
    """Compare an output with that on a page. Other processors round differently."""
    words, numbers = _words_and_numbers(shown)
    words_now, numbers_now = _words_and_numbers(printed)
    assert words_now == words
    assert numbers_now == pytest.approx(numbers, abs=0.03, rel=0.1)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_works_and_shows_the_real_outputs(page: Path, tmp_path: Path) -> None:
    for step in walkthrough.steps(page.read_text("utf-8")):
        printed = walkthrough.run(step, tmp_path)
        if step.shown is not None:
            _assert_same(step.shown, printed)


def test_three_tutorials_are_followed() -> None:
    assert len(TUTORIALS) == 3
    for page in TUTORIALS:
        steps = list(walkthrough.steps(page.read_text("utf-8")))
        # A block without the output that follows it would be compared with nothing.
        assert len([step for step in steps if step.shown]) >= 3, page.name


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", HOW_TO, ids=lambda page: page.stem)
def test_the_commands_of_a_how_to_page_work(page: Path, tmp_path: Path) -> None:
    records = Path("published", "mini", "noisy-mnist")
    shutil.copytree(ROOT / records, tmp_path / records)
    for step in walkthrough.steps(page.read_text("utf-8")):
        walkthrough.run(step, tmp_path)


def _printed(notebook: dict[str, Any]) -> list[str]:
    """The texts of a notebook's outputs. Those of pictures and objects have no figures to compare."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", ())]
    texts = [
        output["data"]["text/plain"] for output in outputs if "text/html" in output.get("data", {})
    ]
    return ["".join(text) for text in texts]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_the_real_tables(path: Path, tmp_path: Path) -> None:
    shown = _printed(json.loads(path.read_text("utf-8")))
    printed = _printed(notebooks.run(path, tmp_path))
    assert shown and len(shown) == len(printed)
    for before, now in zip(shown, printed, strict=True):
        words, numbers = _words_and_numbers(before)
        words_now, numbers_now = _words_and_numbers(now)
        assert words_now == words
        assert numbers_now == pytest.approx(numbers, abs=0.05, rel=0.2)


def test_a_step_has_the_files_before_it_and_the_output_after_it() -> None:
    page = (
        '```python title="a.py"\nprint(1)\n```\n\n```sh\npython a.py\n```\n\n```text\n1\n```\n\n'
        "```sh\ntrue\n```\n\nText.\n\n```text\nnot an output\n```\n"
    )
    first, second = walkthrough.steps(page)
    assert first.files == {"a.py": "print(1)\n"} and first.commands == "python a.py\n"
    assert first.shown == "1\n" and page[slice(*first.span)] == "1\n"
    assert second.files == {} and second.shown is None


def test_outputs_of_a_page_are_written_anew(tmp_path: Path) -> None:
    page = "A\n\n```sh\necho new\n```\n\n```text\nold\n```\n\nB\n"
    assert walkthrough.with_outputs(page, tmp_path) == page.replace("old", "new")


def test_a_command_that_fails_ends_the_page(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="unknown task"):
        walkthrough.with_outputs("```sh\nattnbench tasks nothing\n```\n", tmp_path)
