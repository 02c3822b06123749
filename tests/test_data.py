"""Data in files: storage layouts are equivalent, damage is detected, and the cache is safe."""

from __future__ import annotations

import io
import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import rows_of
from PIL import Image

from attnbench.backbones import load
from attnbench.backbones.backbone import Preprocessing
from attnbench.backbones.imagenet import IMAGENET_A_WNIDS, WNIDS
from attnbench.errors import AttnbenchError
from attnbench.stimuli.cache import PictureCache
from attnbench.stimuli.episode import Episode
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.stimuli.filtration import predict
from attnbench.stimuli.opening import open_dataset
from attnbench.stimuli.shipped_predictions import shipped_predictions
from attnbench.stimuli.sources import open_source, prepare
from attnbench.tasks import FiguresSource, HubSource, Track, load_task

SMALL = Preprocessing(size=16, resize=16, mean=(0.5,) * 3, std=(0.5,) * 3)
CLASSES = ("ant", "bee", "cat", "dog")
PER_CLASS = 12


pytestmark = pytest.mark.usefixtures("cache")


def _picture(seed: int, mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> bytes:
    """Return a made-up JPEG of a few large patches of colour."""
    rng = np.random.default_rng(seed)
    patches = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    patches.resize(size, Image.Resampling.BICUBIC).convert(mode).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def _write_folders(root: Path, split: str, first: int) -> None:
    for label, name in enumerate(CLASSES):
        (root / split / name).mkdir(parents=True)
        for number in range(PER_CLASS):
            file = root / split / name / f"{number:03d}.jpg"
            file.write_bytes(_picture(first + 100 * label + number))


def _write_parquet(root: Path, split: str, first: int) -> None:
    """Write the pictures of `_write_folders` as the hub's Parquet file, with mixed classes."""
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}
    )
    rows = [(label, number) for number in range(PER_CLASS) for label in range(len(CLASSES))]
    pictures = [
        {"bytes": _picture(first + 100 * label + number), "path": None} for label, number in rows
    ]
    table = pa.table(
        {"image": pictures, "label": [label for label, _ in rows]}, schema=features.arrow_schema
    )
    (root / "data").mkdir(parents=True, exist_ok=True)
    pq.write_table(table, root / "data" / f"{split}-00000-of-00001.parquet")


def _source(split: str) -> HubSource:
    return HubSource(kind="hub", hub="nobody/beasts", folder="beasts", split=split)


def _track(**generator: Any) -> Track:
    return Track.model_validate(
        {
            "backbones": ["shipped/digits-cnn"],
            "targets": "all",
            "timeout": 10,
            "adapt": {"source": _source("train"), "positives": "all", "negatives": 20},
            "test": {"source": _source("validation"), "positives": 6, "negatives": 18} | generator,
        }
    )


def _episode(data: Path, **generator: Any) -> Episode:
    return TrackStimuli(_track(**generator), SMALL, None, data).episode("cat", 0)


Layout = Callable[[Path, str, int], None]


@pytest.fixture(params=[_write_folders, _write_parquet], ids=["folders", "parquet"])
def beasts(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    layout: Layout = request.param
    for split, first in (("train", 0), ("validation", 10_000)):
        layout(tmp_path / "data" / "beasts", split, first)
    return tmp_path / "data"


def test_parquet_and_folders_with_the_same_pictures_give_the_same_episode(tmp_path: Path) -> None:
    episodes = []
    for layout in (_write_folders, _write_parquet):
        data = tmp_path / layout.__name__
        for split, first in (("train", 0), ("validation", 10_000)):
            layout(data / "beasts", split, first)
        episodes.append(_episode(data))
    folders, parquet = episodes
    assert folders.fingerprint == parquet.fingerprint
    assert folders.image_ids == parquet.image_ids
    assert np.array_equal(folders.pos, parquet.pos) and np.array_equal(folders.neg, parquet.neg)
    order = rows_of(range(len(folders.present)))
    assert np.array_equal(folders.make(order), parquet.make(order))
    assert len(folders.pos) == PER_CLASS and len(folders.neg) == 20


def test_the_validation_folder_may_be_called_val(tmp_path: Path) -> None:
    _write_folders(tmp_path / "beasts", "train", 0)
    _write_folders(tmp_path / "beasts", "val", 10_000)
    assert len(_episode(tmp_path).present) == 24


def test_a_blend_averages_two_classes_and_no_negative_contains_the_target(beasts: Path) -> None:
    blends = _episode(beasts, generator={"kind": "blend", "alpha": 0.5})
    for name, present in zip(blends.image_ids, blends.present, strict=True):
        picture_class, partner_class = (picture.split("/")[1] for picture in name.split(" + "))
        assert picture_class != partner_class
        assert (picture_class == "cat") == present and partner_class != "cat"
    validation = prepare(open_dataset(_source("validation"), beasts), SMALL)
    indices = {validation.image_name(i): i for i in range(len(validation.rows))}
    images = blends.make(rows_of([0, 10]))
    for image, name in zip(images, (blends.image_ids[0], blends.image_ids[10]), strict=True):
        pair = np.array([indices[picture] for picture in name.split(" + ")])
        expected = validation.load(pair).mean(axis=0) / 255
        # SMALL normalises with mean and standard deviation 0.5.
        assert np.allclose(image * 0.5 + 0.5, expected, atol=1e-5)


def test_alpha_is_the_weight_of_the_first_picture(beasts: Path) -> None:
    mostly_partner = _episode(beasts, generator={"kind": "blend", "alpha": 0.2})
    no_partner = _episode(beasts, generator={"kind": "blend", "alpha": 1.0})
    plain = _episode(beasts)
    order = rows_of(range(24))
    # The same pictures are selected with and without a blend.
    assert np.allclose(no_partner.make(order), plain.make(order), atol=1e-6)
    assert not np.allclose(mostly_partner.make(order), plain.make(order), atol=0.05)


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_grey_and_cmyk_pictures_are_converted_to_rgb(tmp_path: Path, mode: str) -> None:
    _write_folders(tmp_path / "beasts", "train", 0)
    picture = _picture(7, mode)
    (tmp_path / "beasts" / "train" / "ant" / "000.jpg").write_bytes(picture)
    (loaded,) = open_dataset(_source("train"), tmp_path).load([0])
    with Image.open(io.BytesIO(picture)) as image:
        expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    assert loaded.shape == (3, 30, 40) and np.array_equal(loaded, expected)
    original = np.asarray(Image.open(io.BytesIO(_picture(7))).convert("RGB"), dtype=float)
    if mode == "CMYK":  # some readers invert the colours of CMYK JPEGs
        assert np.abs(loaded.transpose(1, 2, 0) - original).mean() < 15


def test_a_damaged_picture_or_an_empty_class_is_an_error(tmp_path: Path) -> None:
    _write_folders(tmp_path / "beasts", "train", 0)
    broken = tmp_path / "beasts" / "train" / "bee" / "003.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    _write_folders(tmp_path / "beasts", "validation", 10_000)
    with pytest.raises(
        AttnbenchError, match=r"cannot read the picture .*/train/bee/003\.jpg: it is"
    ):
        open_dataset(_source("train"), tmp_path).load([15])
    for file in (tmp_path / "beasts" / "validation" / "cat").iterdir():
        file.unlink()
    with pytest.raises(AttnbenchError, match="beasts-validation has 0 pictures of cat"):
        _episode(tmp_path)


def test_a_truncated_parquet_file_is_an_error(tmp_path: Path) -> None:
    _write_parquet(tmp_path / "beasts", "train", 0)
    (file,) = (tmp_path / "beasts" / "data").iterdir()
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(AttnbenchError, match=r"cannot load .*beasts, split train"):
        open_dataset(_source("train"), tmp_path)


def test_pictures_are_decoded_and_cached_once(beasts: Path, cache: Path) -> None:
    source = open_dataset(_source("train"), beasts)
    pictures = prepare(source, SMALL)
    indices = np.arange(len(pictures.rows))
    first = pictures.load(indices)
    (file,) = cache.glob("*.pictures")
    assert file.stat().st_size == len(indices) * (32 + first[0].size)
    before = file.stat().st_mtime_ns
    assert np.array_equal(prepare(source, SMALL).load(indices), first)
    assert file.stat().st_mtime_ns == before


def test_damaged_or_half_written_cache_rows_are_replaced(beasts: Path, cache: Path) -> None:
    pictures = prepare(open_dataset(_source("train"), beasts), SMALL)
    indices = np.arange(len(pictures.rows))
    first = pictures.load(indices)
    (file,) = cache.glob("*.pictures")
    intact = file.read_bytes()
    damaged = bytearray(intact[: len(intact) // 2])
    damaged[40] ^= 1
    file.write_bytes(damaged)
    assert np.array_equal(pictures.load(indices), first)
    assert file.read_bytes() == intact


def test_a_cache_row_of_other_data_is_not_used(cache: Path) -> None:
    pictures = PictureCache(cache, "beasts-train", SMALL)
    picture = np.zeros((3, 16, 16), np.uint8)
    pictures.put(3, b"these bytes", picture)
    cached = pictures.get(3, b"these bytes")
    assert cached is not None and np.array_equal(cached, picture)
    assert pictures.get(3, b"other bytes") is None
    assert pictures.get(2, b"these bytes") is None
    assert pictures.get(99, b"these bytes") is None


def test_pictures_load_if_the_cache_cannot_be_written(beasts: Path, cache: Path) -> None:
    cache.write_text("a file where the cache folder should be")
    pictures = prepare(open_dataset(_source("train"), beasts), SMALL)
    assert len(pictures.load(np.arange(5))) == 5


def _fill(cache: Path, start: int) -> None:
    pictures = PictureCache(cache, "made", SMALL)
    for row in [*range(start, 200), *range(start)]:
        pictures.put(row, b"%d" % row, np.full((3, 16, 16), row, np.uint8))


def test_two_runs_may_write_a_cache_at_once(cache: Path) -> None:
    context = multiprocessing.get_context("spawn")
    runs = [context.Process(target=_fill, args=(cache, start)) for start in (0, 100)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    pictures = PictureCache(cache, "made", SMALL)
    for row in range(200):
        picture = pictures.get(row, b"%d" % row)
        assert picture is not None and (picture == row).all()


def test_filtration_selects_only_misclassified_pictures(cache: Path) -> None:
    track = load_task("imagenet-a").tracks["mini"]
    network = load("shipped/figures-filter")
    stimuli = TrackStimuli(track, network.preprocessing, network.labels, None)
    episode = stimuli.episode(stimuli.targets[0], 0)
    with torch.no_grad():
        images = torch.from_numpy(episode.make(rows_of(range(len(episode.present)))))
        probabilities, predictions = network(images).softmax(1).max(1)
    assert network.labels is not None
    labels = [network.labels.index(name.split("/")[1]) for name in episode.image_ids]
    assert not (predictions.numpy() == labels).any()
    assert probabilities.min() >= 0.15 - 1e-4
    assert not cache.exists()  # figures are drawn, not cached on disk


@pytest.mark.parametrize("per_class", [4, pytest.param(1000, marks=pytest.mark.slow)])
def test_shipped_predictions_are_those_of_the_filter_network(per_class: int) -> None:
    network = load("shipped/figures-filter")
    source = open_source(FiguresSource(kind="figures", split="filter"), None)
    shipped = shipped_predictions(source, network)
    assert shipped is not None and shipped.shape == (len(source.labels), 2)
    rows = np.flatnonzero(np.arange(len(source.labels)) % 1000 < per_class)
    chosen = replace(prepare(source, network.preprocessing), rows=rows)
    expected = predict(chosen, network)
    np.testing.assert_allclose(shipped[rows, 1], expected[:, 1], atol=1e-3)
    # Two labels may have nearly the same probability.
    assert (shipped[rows, 0] == expected[:, 0]).mean() > 0.999
    # Another network, and other pictures, have predictions of their own.
    assert shipped_predictions(source, load("shipped/figures-vgg")) is None
    assert shipped_predictions(source, load("shipped/figures-filter", untrained=True)) is None
    test = open_source(FiguresSource(kind="figures", split="test"), None)
    assert shipped_predictions(test, network) is None


def test_no_test_picture_is_among_the_adaptation_pictures() -> None:
    for name in ("imagenet-standard", "imagenet-a", "cifar-ssl", "noisy-mnist"):
        track = load_task(name).tracks["mini"]
        table = track.model_dump()
        if name == "noisy-mnist":  # compare the pictures before noise
            for image_set in ("adapt", "test"):
                table[image_set]["generator"] = None
        backbone = load(track.backbones[0], untrained=True)
        stimuli = TrackStimuli(
            Track.model_validate(table), backbone.preprocessing, backbone.labels, None
        )
        adaptation_images, test_images = set(), set()
        for target in stimuli.targets[:5]:
            episode = stimuli.episode(target, 0)
            images = np.concatenate([episode.pos, episode.neg])
            adaptation_images |= {image.tobytes() for image in images}
            order = rows_of(range(len(episode.present)))
            test_images |= {image.tobytes() for image in episode.make(order)}
        assert adaptation_images and test_images and not adaptation_images & test_images


@pytest.mark.parametrize("layout", ["hub", "folder"])
def test_small_reads_tiny_imagenet_as_the_hub_and_a_data_folder_have_it(
    tmp_path: Path, layout: str
) -> None:
    """The hub's second split is `valid`, and it has more classes than the task."""
    tasks = [load_task(name) for name in ("imagenet-standard", "alpha-blend", "imagenet-a")]
    source = tasks[0].tracks["small"].test.source
    assert isinstance(source, HubSource)
    names = sorted({*source.classes, "n01443537", "n04067472"})
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=names)}
    )
    second = "valid" if layout == "hub" else "validation"
    for split, per_class, first in (("train", 8, 0), (second, 2, 1000)):
        labels = [label for label in range(len(names)) for _ in range(per_class)]
        images = [{"bytes": _picture(first + row), "path": None} for row in range(len(labels))]
        table = pa.table({"image": images, "label": labels}, schema=features.arrow_schema)
        file = tmp_path / "tiny-imagenet" / "data" / f"{split}-00000-of-00001.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, file)
    data = tmp_path if layout == "folder" else None
    for task in tasks:
        table = task.tracks["small"].model_dump()
        for sample, count in ((table["adapt"], 4), (table["test"], 6)):
            sample |= {"positives": count, "negatives": 20}
            sample["source"]["hub"] = str(tmp_path / "tiny-imagenet")
        if task.name == "imagenet-a":
            table["test"]["generator"] = None  # the network that filters is not shipped
        stimuli = TrackStimuli(Track.model_validate(table), SMALL, WNIDS, data)
        assert stimuli.targets == source.classes
        stimuli.check([0])
        episode = stimuli.episode("n04560804", 0)
        assert episode.label == WNIDS.index("n04560804") and len(episode.rivals) == 40
        assert {name.split("/")[1] for name in episode.image_ids} <= {*source.classes}


@pytest.mark.slow
def test_episodes_of_full_come_from_imagenets_folders(tmp_path: Path) -> None:
    """1,000 folders of 10 pictures to adapt on and of 3 to test on, and 200 for ImageNet-A."""
    for split, per_class, first in (("train", 10, 0), ("val", 3, 100_000)):
        for label, wnid in enumerate(WNIDS):
            (tmp_path / "imagenet" / split / wnid).mkdir(parents=True)
            for number in range(per_class):
                file = tmp_path / "imagenet" / split / wnid / f"{wnid}_{number}.JPEG"
                file.write_bytes(_picture(first + 10 * label + number))
    for label, wnid in enumerate(IMAGENET_A_WNIDS):
        (tmp_path / "imagenet-a" / wnid).mkdir(parents=True)
        for number in range(3):
            file = tmp_path / "imagenet-a" / wnid / f"{number}.jpg"
            file.write_bytes(_picture(50_000 + 10 * label + number))
    preprocessing = load("torchvision/squeezenet1_1", untrained=True).preprocessing
    for name in ("imagenet-standard", "alpha-blend", "imagenet-a"):
        table = load_task(name).tracks["full"].model_dump()
        table["adapt"]["negatives"] = 50
        table["test"]["negatives"] = 100 if name == "alpha-blend" else "all"
        stimuli = TrackStimuli(Track.model_validate(table), preprocessing, WNIDS, tmp_path)
        assert len(stimuli.targets) == 200
        episode = stimuli.episode("n03417042", 0)  # garbage truck
        assert episode.label == 569 and len(episode.rivals) == 200
        # 90 % of ten pictures to adapt on; each of three test pictures with 32 partners in blends.
        assert len(episode.pos) == 9
        expected = (3 * 32, 100 * 32) if name == "alpha-blend" else (3, 3 * 199)
        assert (episode.present.sum(), (~episode.present).sum()) == expected
        assert len(set(episode.image_ids)) == sum(expected)
        assert episode.make(rows_of([0, 1, 599])).shape == (3, 3, 224, 224)
        other_seed = stimuli.episode("n03417042", 1)
        assert not np.array_equal(other_seed.neg, episode.neg)
