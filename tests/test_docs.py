"""The documentation: links resolve, commands run, and the outputs shown are real."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from attnbench.text import printable
from attnbench.version import __version__
from tests.command_line import run

pytestmark = pytest.mark.usefixtures("quick_fork_servers")

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")])


def _links(page: Path) -> list[tuple[Path, str]]:
    """The file and the anchor, which may be empty, of each link to this repository in a page."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"(?<!\\)\]\(([^)\s]+)\)", text)
    parts = [target.partition("#") for target in targets if "://" not in target]
    return [(page.parent / file if file else page, anchor) for file, _, anchor in parts]


def _anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    titles = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_resolve(page: Path) -> None:
    for file, anchor in _links(page):
        assert file.exists(), f"{page.name} links to {file}, which does not exist"
        if anchor and file.suffix == ".md":
            assert anchor in _anchors(file), f"{page.name} links to {file}#{anchor}"


def _blocks(page: str) -> list[str]:
    """The contents of the shell blocks of a page."""
    return re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)


def _commands_in(block: str) -> list[list[str]]:
    """The arguments of each attnbench command in a shell block, without comments."""
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    return [words[1:] for words in lines if words and words[0] == "attnbench"]


def _commands_of_readme(text: str) -> list[list[str]]:
    """The attnbench commands of the only shell block of the README that contains a text."""
    (block,) = [block for block in _blocks("README.md") if text in block]
    return _commands_in(block)


def _run(arguments: list[str], folder: Path) -> None:
    """Run an attnbench command in a folder, on one task only. It must succeed."""
    result = run(*arguments, folder=folder, environment={"ATTNBENCH_TASK": "noisy-mnist"})
    assert result.returncode == 0, f"{arguments}: {printable(result.stderr)}"


def test_readme_commands_that_add_a_method_work(tmp_path: Path) -> None:
    commands = _commands_of_readme("attnbench new")
    assert [command[0] for command in commands] == ["new", "try", "check", "evaluate"]
    for command in commands:
        _run(command, tmp_path)
    assert list(tmp_path.glob("records/mini/noisy-mnist/my-method@*.json"))


def _figures(table: str) -> dict[str, list[str]]:
    """The figures of a table of results without its times: by task, or by task and submission."""
    figures, task = {}, ""
    for line in table.splitlines():
        if match := re.match(r"( *)(\S+) +(-?\d+\.\d\d \[.*)", line):
            indent, name, cells = match.groups()
            key = f"{task}: {name}" if indent else name
            figures[key] = re.findall(r"-?\d+\.\d\d(?=[ ,\]])|\d[\d,]* \+ \d[\d,]*", cells)
        elif re.fullmatch(r"[\w-]+ *", line):
            task = line.strip()
    return figures


def _same_figures(shown: str, printed: str) -> None:
    expected, actual = _figures(shown), _figures(printed)
    assert expected and expected.keys() == actual.keys()
    for key, cells in expected.items():
        *numbers, parameters = cells
        *now, parameters_now = actual[key]
        assert parameters == parameters_now, key
        # Other processors round differently.
        assert list(map(float, now)) == pytest.approx(list(map(float, numbers)), abs=0.04), key


def _evaluate(folder: Path, *names: str) -> str:
    done = run("evaluate", *names, folder=folder, environment={"COLUMNS": "80"})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("anew", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_readme_shows_the_figures_of_its_first_command(anew: bool, tmp_path: Path) -> None:
    """Without `anew`, the command finds its records, which are the published ones."""
    if not anew:
        shutil.copytree(ROOT / "published", tmp_path / "records")
    shown, *_ = re.findall(r"```text\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    printed = _evaluate(tmp_path, "attention")
    _same_figures(shown, printed)
    assert re.findall("records/.*", shown) == re.findall("records/.*", printed)


@pytest.mark.slow
def test_a_tutorial_shows_the_figures_of_several_methods(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "tutorials" / "reading-the-leaderboard.md").read_text("utf-8")
    command, shown = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    assert command.startswith("attnbench evaluate ")
    _same_figures(shown, _evaluate(tmp_path, *shlex.split(command)[2:]))


def test_readme_commands_that_show_something_work(tmp_path: Path) -> None:
    commands = _commands_of_readme("--gallery")
    records = Path("published", "mini", "noisy-mnist")
    shutil.copytree(ROOT / records, tmp_path / records)
    for command in commands:
        _run(command, tmp_path)
    assert (tmp_path / "digits.png").exists() and (tmp_path / "leaderboard.md").exists()


def test_first_command_of_the_readme_installs_and_evaluates() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    first_block = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)[0].strip()
    assert "\n" not in first_block
    assert first_block.endswith("attnbench evaluate submissions/attention")
    ci = (ROOT / ".ci" / "run").read_text("utf-8").strip().splitlines()[-1]
    assert f"```sh\n{ci}\n```" in text


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == __version__ and citation["cff-version"] == "1.2.0"
    assert citation["authors"] and citation["license"] == "MIT"


@pytest.mark.slow
@pytest.mark.parametrize(
    "block", _blocks("docs/scaling.md"), ids=lambda block: block.split("\n")[0]
)
def test_commands_of_the_scaling_page_work(block: str, tmp_path: Path) -> None:
    for library in ("ray", "slurm"):
        if f"--engine {library}" in block:
            pytest.importorskip({"slurm": "submitit"}.get(library, library))
    for command in _commands_in(block):
        _run(command, tmp_path)
    has_records = bool(list(tmp_path.glob("records/mini/noisy-mnist/*.json")))
    assert has_records == ("evaluate" in block)


def test_the_listener_for_an_experiment_tracker_logs_each_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: dict[str, list[dict[str, object]]] = {"params": [], "metrics": []}
    tracker = ModuleType("mlflow")
    vars(tracker).update(
        start_run=lambda run_name: contextlib.nullcontext(),
        log_params=logged["params"].append,
        log_metrics=logged["metrics"].append,
    )
    monkeypatch.setitem(sys.modules, "mlflow", tracker)
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "how-to" / "experiment-trackers.md").read_text("utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(block, {})
    (identity,), (metrics,) = logged["params"], logged["metrics"]
    assert identity["submission"] == "bias_only" and set(metrics) == {"d_a", "d_prime"}
