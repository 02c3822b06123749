"""`python -m benchmarks gpu`, on a CPU and with nothing installed but what a bare machine has."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest
import torch
from torch import nn

from attnbench.errors import AttnbenchError
from benchmarks.gpu import run as runner
from benchmarks.gpu.command import PART_NAMES, main
from benchmarks.gpu.memory import peak_bytes
from benchmarks.gpu.part import Measured, Part, Sizes
from benchmarks.gpu.rates import (
    event_seconds,
    matrix_rate,
    operations_per_image,
    synchronised_seconds,
    until,
)
from benchmarks.gpu.results import BEGIN, END, PAGE, PartResult, read, summary, with_results
from benchmarks.gpu.wheels import UNUSED, WITH_TORCH, CannotPack, pack, requirements, unpack
from benchmarks.measured import Figure
from benchmarks.studies.timing_protocol import interval_widths

# The dry run takes half a minute, but longer beside other work.
pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")

# Packages that are only in the folder of wheels, and modules that are nowhere.
PACKED = ("pydantic", "pydantic_core", "annotated_types", "typing_inspection")
MISSING = ("datasets", "typer", "rich", "matplotlib", "tabulate", "pytest", "hypothesis")
BARE_MACHINE = f"""
import sys
from importlib.machinery import ModuleSpec, PathFinder


class BareMachine:
    def find_spec(self, name, path=None, target=None):
        if path is None and name in {PACKED}:
            folders = [folder for folder in sys.path if "attnbench-packages-" in folder]
            return PathFinder.find_spec(name, folders) or ModuleSpec(name, self)
        return ModuleSpec(name, self) if path is None and name in {MISSING} else None

    def create_module(self, spec):
        raise ModuleNotFoundError(f"No module named {{spec.name!r}}", name=spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, BareMachine())
"""


@dataclass(frozen=True)
class DryRun:
    """What the command has done on a CPU."""

    folder: Path
    exit_code: int
    printed: str
    seconds: float


def on_a_bare_machine(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command in a Python without most of what is installed here."""
    (folder / "sitecustomize.py").write_text(BARE_MACHINE)
    line = [sys.executable, "-m", "benchmarks", "gpu", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True)


def wheel_of(package: str, folder: Path) -> None:
    """Put the files of an installed package back into a wheel."""
    files = metadata.files(package)
    assert files
    with zipfile.ZipFile(folder / f"{package}-1-py3-none-any.whl", "w") as archive:
        for file in files:
            if ".." not in file.parts and file.suffix != ".pyc":
                archive.write(str(file.locate()), str(file))


@pytest.fixture(scope="module")
def dry_run(tmp_path_factory: pytest.TempPathFactory) -> DryRun:
    """The whole command, on a CPU."""
    folder = tmp_path_factory.mktemp("bare")
    wheels = folder / "wheels"
    wheels.mkdir()
    for package in PACKED:
        wheel_of(package, wheels)
    out = folder / "out"
    started = time.monotonic()
    done = on_a_bare_machine(folder, "--packed", wheels, "--out", out, "--device", "cpu")
    return DryRun(out, done.returncode, done.stdout + done.stderr, time.monotonic() - started)


@pytest.fixture(scope="module")
def results(dry_run: DryRun) -> dict[str, PartResult]:
    """The results of the dry run by part."""
    assert dry_run.exit_code in (0, 1), dry_run.printed
    return {result.part: result for result in read(dry_run.folder)}


def test_every_part_is_measured_whole(dry_run: DryRun, results: dict[str, PartResult]) -> None:
    assert list(results) == [*PART_NAMES]
    for result in results.values():
        assert result.status == "done" and not result.not_reached
        failed = {failure.item: failure.reason for failure in result.failures}
        # bubblewrap may not be installed, or not allowed.
        assert failed.keys() <= ({"bwrap"} if result.part == "bubblewrap" else set()), failed
    has_failed = any(result.failures for result in results.values())
    assert dry_run.exit_code == int(has_failed), dry_run.printed


def values_of(result: PartResult, column: str) -> dict[str, float]:
    """The median of each figure of a column, by row."""
    return {figure.row: figure.interval[0] for figure in result.figures if figure.column == column}


def test_the_same_device_gives_the_same_scores(results: dict[str, PartResult]) -> None:
    differences = values_of(results["methods"], "difference")
    assert len(differences) == 3 and set(differences.values()) == {0.0}
    correlations = values_of(results["methods"], "correlation of scores")
    assert list(correlations.values()) == pytest.approx([1, 1])


def test_all_questions_about_the_clock_have_figures(results: dict[str, PartResult]) -> None:
    rows = set(values_of(results["timing"], "measured"))
    for question in (
        "`attention`, adaptation 1 of a process",
        "an adaptation, by events",
        "by the judge, with it on another stream",
        "by the judge, cold",
        "a pass, one after the other",
        "by the judge, warm, beside a second job",
        "half of the 95 % interval after 3 repeats, over the median",
        "time after a rehearsal on 8 + 8 images, over that after one on 64 + 64",
    ):
        assert question in rows


def test_methods_take_passes_and_memory_on_each_network(results: dict[str, PartResult]) -> None:
    passes = values_of(results["networks"], "passes")
    memory = values_of(results["memory"], "resident, 4 + 4 images")
    for network in Sizes.on("cpu").networks:
        assert 0 < passes[f"{network}: bias_only"] < passes[f"{network}: attention"]
        assert 0 <= memory[f"{network}: attention"] < 500
    assert memory[f"{Sizes.on('cpu').networks[0]}: attention, by the judge"] > 1
    shares = values_of(results["networks"], "share of that rate")
    assert len(shares) == 9 and all(0 < share < 2 for share in shares.values())


def test_the_judge_and_a_bare_loop_predict(results: dict[str, PartResult]) -> None:
    ratios = values_of(results["prediction"], "time over that of the loop")
    assert len(ratios) == 3 and all(ratio > 0.1 for ratio in ratios.values())


def test_the_summary_has_all_tables_and_the_device(
    dry_run: DryRun, results: dict[str, PartResult]
) -> None:
    text = (dry_run.folder / "summary.md").read_text("utf-8")
    assert text == summary(results.values())
    for result in results.values():
        assert f"### {result.title}\n" in text
        assert text.count(f"{result.machine}; {result.day}.") == len(results)


def test_a_machine_that_lacks_packages_says_how_to_bring_them(tmp_path: Path) -> None:
    done = on_a_bare_machine(tmp_path, "--out", tmp_path / "out", "--device", "cpu")
    assert done.returncode == 2
    assert done.stderr.startswith("this machine has no package 'pydantic'.")
    assert "--pack" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_machine_without_a_gpu_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "this machine has no CUDA device; use --device cpu\n"


def test_a_folder_that_cannot_be_used_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "other.json").write_text("{}")
    for folder in (tmp_path / "file", tmp_path):
        assert main(["--out", str(folder), "--device", "cpu"]) == 2
    printed = capsys.readouterr()
    assert not printed.out
    no_folder, foreign = printed.err.splitlines()
    assert "choose another folder" in no_folder and "other.json is not a result" in foreign


# Made-up parts.


def _items(sizes: Sizes) -> list[str]:
    return ["good", "raises", "refuses", "dies", "hangs", "too late"]


def _measure(item: str, sizes: Sizes, seconds: float) -> Measured:
    match item:
        case "raises":
            raise RuntimeError("a <b>device-side</b> assert\nof many lines")
        case "refuses":
            raise AttnbenchError("there is no such thing")
        case "dies":
            os._exit(3)
        case "hangs":
            time.sleep(1000)
    return Measured((Figure(row=item, values=[seconds]),), (f"{item} in process {os.getpid()}",))


TROUBLE = Part("trouble", "(a) Trouble", 0.1, _items, _measure)
PEACE = Part("peace", "(b) Peace", 1.0, lambda sizes: ["good", "better"], _measure)


def test_what_fails_is_a_result_and_the_next_part_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_GRACE_SECONDS", 0.0)
    told: list[str] = []
    seen_at_failure: list[bool] = []

    def tell(line: str) -> None:
        told.append(line)
        if "hangs: failed" in line:  # the results before it are already on disk
            (early,) = read(tmp_path)
            seen_at_failure.append(early.status == "running" and bool(early.figures))

    trouble, peace = runner.run(tmp_path, [TROUBLE, PEACE], "cpu", 100.0, tell)
    assert seen_at_failure == [True]
    reasons = {failure.item: failure.reason for failure in trouble.failures}
    assert reasons["raises"] == "RuntimeError: a <b>device-side</b> assert"
    assert reasons["refuses"] == "there is no such thing"
    assert reasons["dies"] == "the process ended with exit code 3"
    assert reasons["hangs"].startswith("stopped after ")
    assert trouble.status == "out of time" and trouble.not_reached == ("too late",)
    assert "os._exit" not in trouble.failures[0].traceback
    assert "RuntimeError" in trouble.failures[0].traceback
    assert peace.status == "done" and len(peace.figures) == 2 and not peace.failures
    first, second = (remark.split()[-1] for remark in peace.remarks)
    assert first == second  # nothing has failed, so the process stays
    assert read(tmp_path) == [trouble, peace]
    text = (tmp_path / "summary.md").read_text("utf-8")
    assert r"raises: **failed**: RuntimeError: a \<b\>device-side\</b\> assert" in text


def test_an_item_gets_its_share_of_what_is_left(tmp_path: Path) -> None:
    (peace,) = runner.run(tmp_path, [PEACE], "cpu", 60.0, lambda line: None)
    first, second = (figure.values[0] for figure in peace.figures)
    # The first one takes almost none of its half, which the second one gets.
    assert 1 < first <= 30 and first * 1.5 < second <= 60


# The page of results.


def test_results_replace_those_on_the_page(results: dict[str, PartResult]) -> None:
    page = PAGE.read_text("utf-8")
    assert page.count(BEGIN) == page.count(END) == 1
    once = with_results(page, results.values())
    assert once == with_results(once, results.values())
    assert all(f"\n### {result.title}\n" in once for result in results.values())
    assert once.partition(BEGIN)[0] == page.partition(BEGIN)[0]
    assert once.partition(END)[2] == page.partition(END)[2]


def test_a_folder_without_results_has_none_to_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = PAGE.read_bytes()
    assert main(["--report", str(tmp_path)]) == 2
    (tmp_path / "a.json").write_text("{}")
    assert main(["--report", str(tmp_path)]) == 2
    nothing, damaged = capsys.readouterr().err.splitlines()
    assert "there are no results" in nothing and "is not a result" in damaged
    assert PAGE.read_bytes() == before


# Wheels.


def test_what_is_packed_is_what_a_bare_machine_lacks() -> None:
    names = {line.partition("==")[0] for line in requirements("3.12")}
    assert {"pydantic", "pydantic-core", "safetensors", "scipy", "peft", "pandas"} <= names
    assert names.isdisjoint(WITH_TORCH | UNUSED)
    fewer = {line.partition("==")[0] for line in requirements("3.12", ["peft", "SciPy"])}
    assert fewer.isdisjoint({"peft", "transformers", "scipy"}) and "pydantic" in fewer


def small_wheel(folder: Path, name: str) -> None:
    """Write a wheel with one module."""
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", "VALUE = 3\n")
        info = f"{name}-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


def test_wheels_are_fetched_by_pip_and_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, packed = tmp_path / "source", tmp_path / "packed"
    source.mkdir()
    small_wheel(source, "made_up")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(source))
    (wheel,) = pack(packed, "3.12", ["made-up==1.0"])
    assert wheel.parent == packed
    site = unpack(packed, tmp_path)
    assert site.name == "site-packages" and (site / "made_up.py").read_text() == "VALUE = 3\n"
    with pytest.raises(CannotPack, match=r"pip cannot fetch the wheels: .*made-up==2"):
        pack(packed, "3.12", ["made-up==2.0"])


def test_folders_without_wheels_or_with_damaged_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotPack, match="no wheels in"):
        unpack(tmp_path, tmp_path / "a")
    (tmp_path / "a.whl").write_text("no zip")
    with pytest.raises(CannotPack, match="is damaged"):
        unpack(tmp_path, tmp_path / "a")


# Rates and repetitions.


def test_operations_are_counted_as_on_paper() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 6, 10))
    expected = 2 * (4 * 6 * 6 * 3 * 3 * 3) + 2 * (4 * 6 * 6 * 10)
    assert operations_per_image(network, torch.zeros(5, 3, 8, 8)) == expected


def test_the_rate_of_products_is_that_of_the_device() -> None:
    size = 256
    a = torch.randn(size, size)
    seconds = min(synchronised_seconds(lambda: a @ a, CPU) for _ in range(20))
    expected = 2 * size**3 / seconds
    # Other tests may run at the same time.
    assert expected / 20 < matrix_rate(CPU, torch.float32, size) < 3 * expected


def test_host_and_events_time_the_same_on_a_cpu() -> None:
    for clock in (event_seconds, synchronised_seconds):
        assert 0.02 <= clock(lambda: time.sleep(0.02), CPU) < 1


def test_repetitions_fit_into_their_time() -> None:
    calls: list[int] = []
    assert until(0.0, 5, lambda: calls.append(1)) == len(calls) == 1
    assert until(100.0, 5, lambda: calls.append(1)) == 5 and len(calls) == 6
    started = time.monotonic()
    assert until(0.2, 1000, lambda: time.sleep(0.03)) < 7
    assert time.monotonic() - started < 0.5


def test_peak_memory_is_that_of_the_largest_tensors() -> None:
    def allocate() -> None:
        torch.ones(32 << 20).sum()  # 128 MiB

    (peak,) = peak_bytes(allocate, CPU).values()
    assert 120 << 20 < peak < 160 << 20
    (small,) = peak_bytes(lambda: None, CPU).values()
    assert small < 20 << 20  # the earlier peak is forgotten


def test_intervals_shrink_with_repeats() -> None:
    assert set(interval_widths([0.5] * 9).values()) == {0.0}
    widths = list(interval_widths([1.0, 1.1, 1.2, 1.3, 1.4, 1.5]).values())
    assert widths == sorted(widths, reverse=True) and widths[0] > 2 * widths[-1]
