"""The path of pictures from files to a detector, compared with decoding alone.

python -m benchmarks run benchmarks/test_stimuli.py
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture

from attnbench.backbones.backbone import Preprocessing
from attnbench.stimuli import figures
from attnbench.stimuli.datasets import Dataset
from attnbench.stimuli.opening import open_dataset
from attnbench.stimuli.preprocessing import in_unit_range, normalise
from attnbench.stimuli.sources import prepare
from attnbench.tasks import HubSource
from benchmarks.conftest import Keep
from benchmarks.measured import Figure
from benchmarks.rounds import in_rounds, seconds_of

TABLE, PICTURES, ROUNDS = "pictures", 64, 10

# The preprocessing of torchvision's classifiers.
IMAGENET = Preprocessing(
    size=224, resize=256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Synthetic JPEGs of the usual size in ImageNet: blurred noise with grain, all of one class."""
    monkeypatch.setenv("ATTNBENCH_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    folder = tmp_path / "photographs" / "train" / "any"
    folder.mkdir(parents=True)
    for number in range(PICTURES):
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((500, 375)), np.int16)
        grain = rng.normal(0, 12, pixels.shape).astype(np.int16)
        picture = Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))
        picture.save(folder / f"{number:03}.jpg", quality=92)
    source = HubSource(kind="hub", hub="made/up", folder="photographs", split="train")
    return open_dataset(source, tmp_path)


def decode(photographs: Dataset) -> None:
    """Decode all pictures to RGB, as a program without attnbench would."""
    for row in range(PICTURES):
        with Image.open(io.BytesIO(photographs.encoded(row))) as picture:
            np.asarray(picture.convert("RGB"))


def test_pictures(
    benchmark: BenchmarkFixture, keep: Keep, photographs: Dataset, tmp_path: Path
) -> None:
    """Rates relative to that of decoding alone, measured in turn."""
    all_rows = np.arange(PICTURES)

    def from_files() -> NDArray[np.uint8]:
        for file in (tmp_path / "cache").glob("*"):
            file.unlink()
        return from_cache()

    def from_cache() -> NDArray[np.uint8]:
        return prepare(photographs, IMAGENET).load(all_rows)

    def for_a_detector() -> None:
        for picture in from_cache():
            normalise(in_unit_range(picture), IMAGENET)

    paths: dict[str, Callable[[], object]] = {
        "decoded, resized, cropped, and kept in the cache": from_files,
        "from the cache": from_cache,
        "from the cache, as normalised images": for_a_detector,
    }

    def rates() -> list[float]:
        decoding = PICTURES / seconds_of(lambda: decode(photographs))
        seconds = [seconds_of(function) for function in paths.values()]
        return [decoding, *(PICTURES / duration / decoding for duration in seconds)]

    decoding, *relative_rates = zip(*in_rounds(benchmark, rates, ROUNDS), strict=True)
    keep(
        TABLE,
        Figure(
            row="decoded and nothing else",
            unit="a second",
            values=decoding,
            more_is_better=True,
        ),
        *(
            Figure(
                row=f"{path}, rate over decoding's", unit="%", values=values, more_is_better=True
            )
            for path, values in zip(paths, relative_rates, strict=True)
        ),
    )


def test_drawing_figures(benchmark: BenchmarkFixture, keep: Keep) -> None:
    def rate() -> float:
        return 64 / seconds_of(lambda: figures.draw("adapt", 7, np.arange(64)))

    row, values = "figures of `mini` drawn", in_rounds(benchmark, rate, ROUNDS)
    keep(TABLE, Figure(row=row, unit="a second", values=values, more_is_better=True))
