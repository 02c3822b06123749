"""Data in files: the same pictures give the same figures however they lie, and damage is noticed."""

from __future__ import annotations

import io
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import rows_of
from PIL import Image

from attnbench.backbones import load
from attnbench.backbones.backbone import Preprocessing
from attnbench.backbones.imagenet import IMAGENET_A_WNIDS, WNIDS
from attnbench.errors import AttnbenchError
from attnbench.stimuli.cache import PictureCache
from attnbench.stimuli.datasets import open_dataset
from attnbench.stimuli.episodes import Episode, TrackStimuli
from attnbench.stimuli.sources import prepare
from attnbench.tasks import HubSource, Track, load_task

SMALL = Preprocessing(size=16, resize=16, mean=(0.5,) * 3, std=(0.5,) * 3)
CLASSES = ("ant", "bee", "cat", "dog")
PER_CLASS = 12


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ATTNBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _picture(seed: int, mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> bytes:
    """A made-up JPEG: a few large patches of colour."""
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
    """The same pictures as a hub's Parquet file, their classes mixed."""
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}
    )
    mixed = [(label, number) for number in range(PER_CLASS) for label in range(len(CLASSES))]
    images = [
        {"bytes": _picture(first + 100 * label + number), "path": None} for label, number in mixed
    ]
    table = pa.table(
        {"image": images, "label": [label for label, _ in mixed]}, schema=features.arrow_schema
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


def test_parquet_and_folders_of_the_same_pictures_give_the_same_episode(tmp_path: Path) -> None:
    episodes = []
    for layout in (_write_folders, _write_parquet):
        data = tmp_path / layout.__name__
        for split, first in (("train", 0), ("validation", 10_000)):
            layout(data / "beasts", split, first)
        episodes.append(_episode(data))
    one, other = episodes
    assert one.fingerprint == other.fingerprint and one.image_ids == other.image_ids
    assert np.array_equal(one.pos, other.pos) and np.array_equal(one.neg, other.neg)
    order = rows_of(range(len(one.present)))
    assert np.array_equal(one.make(order), other.make(order))
    assert len(one.pos) == PER_CLASS and len(one.neg) == 20


def test_validation_may_be_called_val(tmp_path: Path) -> None:
    _write_folders(tmp_path / "beasts", "train", 0)
    _write_folders(tmp_path / "beasts", "val", 10_000)
    assert len(_episode(tmp_path).present) == 24


def test_a_blend_is_half_of_each_and_no_negative_holds_the_target(beasts: Path) -> None:
    blended = _episode(beasts, generator={"kind": "blend", "alpha": 0.5})
    for name, present in zip(blended.image_ids, blended.present, strict=True):
        one, other = (part.split("/")[1] for part in name.split(" + "))
        assert one != other
        assert (one == "cat") == present and other != "cat"
    validation = prepare(open_dataset(_source("validation"), beasts), SMALL)
    names = {validation.image_name(n): n for n in range(len(validation.rows))}
    images = blended.make(rows_of([0, 10]))
    for image, name in zip(images, (blended.image_ids[0], blended.image_ids[10]), strict=True):
        pair = np.array([names[part] for part in name.split(" + ")])
        expected = validation.load(pair).mean(axis=0) / 255
        assert np.allclose(image * 0.5 + 0.5, expected, atol=1e-5)


def test_alpha_is_the_share_of_the_first(beasts: Path) -> None:
    weak = _episode(beasts, generator={"kind": "blend", "alpha": 0.2})
    whole = _episode(beasts, generator={"kind": "blend", "alpha": 1.0})
    plain = _episode(beasts)
    order = rows_of(range(24))
    # alpha = 1 is the picture itself: the same pictures are drawn with and without a blend
    assert np.allclose(whole.make(order), plain.make(order), atol=1e-6)
    assert not np.allclose(weak.make(order), plain.make(order), atol=0.05)


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_grey_and_cmyk_pictures_become_rgb(tmp_path: Path, mode: str) -> None:
    _write_folders(tmp_path / "beasts", "train", 0)
    picture = _picture(7, mode)
    (tmp_path / "beasts" / "train" / "ant" / "000.jpg").write_bytes(picture)
    (loaded,) = open_dataset(_source("train"), tmp_path).load([0])
    with Image.open(io.BytesIO(picture)) as image:
        expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    assert loaded.shape == (3, 30, 40) and np.array_equal(loaded, expected)
    original = np.asarray(Image.open(io.BytesIO(_picture(7))).convert("RGB"), dtype=float)
    if mode == "CMYK":  # not inverted, as some readers have it
        assert np.abs(loaded.transpose(1, 2, 0) - original).mean() < 15


def test_damage_is_named_never_scored(tmp_path: Path) -> None:
    _write_folders(tmp_path / "beasts", "train", 0)
    broken = tmp_path / "beasts" / "train" / "bee" / "003.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    _write_folders(tmp_path / "beasts", "validation", 10_000)
    with pytest.raises(AttnbenchError, match="beasts-train/bee/3: the image cannot be decoded"):
        open_dataset(_source("train"), tmp_path).load([15])
    for file in (tmp_path / "beasts" / "validation" / "cat").iterdir():
        file.unlink()
    with pytest.raises(AttnbenchError, match="beasts-validation has 0 images of cat"):
        _episode(tmp_path)


def test_a_truncated_parquet_file_is_named(tmp_path: Path) -> None:
    _write_parquet(tmp_path / "beasts", "train", 0)
    (file,) = (tmp_path / "beasts" / "data").iterdir()
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(AttnbenchError, match=r"cannot load .*beasts, split train"):
        open_dataset(_source("train"), tmp_path)


def test_pictures_are_decoded_once(beasts: Path, cache: Path) -> None:
    source = open_dataset(_source("train"), beasts)
    pictures = prepare(source, SMALL)
    everything = np.arange(len(pictures.rows))
    first = pictures.load(everything)
    (kept,) = cache.glob("*.pictures")
    assert kept.stat().st_size == len(everything) * (32 + first[0].size)
    before = kept.stat().st_mtime_ns
    assert np.array_equal(prepare(source, SMALL).load(everything), first)
    assert kept.stat().st_mtime_ns == before


def test_a_damaged_or_half_written_cache_is_made_again(beasts: Path, cache: Path) -> None:
    pictures = prepare(open_dataset(_source("train"), beasts), SMALL)
    everything = np.arange(len(pictures.rows))
    first = pictures.load(everything)
    (kept,) = cache.glob("*.pictures")
    whole = kept.read_bytes()
    damaged = bytearray(whole[: len(whole) // 2])
    damaged[40] ^= 1
    kept.write_bytes(damaged)
    assert np.array_equal(pictures.load(everything), first)
    assert kept.read_bytes() == whole


def test_a_cache_of_other_data_is_not_believed(cache: Path) -> None:
    kept = PictureCache(cache, "beasts-train", SMALL)
    picture = np.zeros((3, 16, 16), np.uint8)
    kept.put(3, b"these bytes", picture)
    found = kept.get(3, b"these bytes")
    assert found is not None and np.array_equal(found, picture)
    assert kept.get(3, b"other bytes") is None
    assert kept.get(2, b"these bytes") is None
    assert kept.get(99, b"these bytes") is None


def test_where_nothing_can_be_written_nothing_is_kept(beasts: Path, cache: Path) -> None:
    cache.write_text("in the way")
    pictures = prepare(open_dataset(_source("train"), beasts), SMALL)
    assert len(pictures.load(np.arange(5))) == 5


def _fill(cache: Path, start: int) -> None:
    kept = PictureCache(cache, "made", SMALL)
    for row in [*range(start, 200), *range(start)]:
        kept.put(row, b"%d" % row, np.full((3, 16, 16), row, np.uint8))


def test_two_runs_may_build_a_cache_at_once(cache: Path) -> None:
    context = multiprocessing.get_context("spawn")
    runs = [context.Process(target=_fill, args=(cache, start)) for start in (0, 100)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    kept = PictureCache(cache, "made", SMALL)
    for row in range(200):
        picture = kept.get(row, b"%d" % row)
        assert picture is not None and (picture == row).all()


def test_filtration_keeps_only_what_the_network_gets_wrong(cache: Path) -> None:
    track = load_task("imagenet-a").tracks["mini"]
    network = load("shipped/figures-filter")
    stimuli = TrackStimuli(track, network.preprocessing, network.labels, None)
    episode = stimuli.episode(stimuli.targets[0], 0)
    import torch

    with torch.no_grad():
        images = torch.from_numpy(episode.make(rows_of(range(len(episode.present)))))
        certainty, answer = network(images).softmax(1).max(1)
    labels = network.labels or ()
    right = [labels.index(name.split("/")[1]) for name in episode.image_ids]
    assert not (answer.numpy() == right).any()
    assert certainty.min() >= 0.15 - 1e-4
    assert not cache.exists()  # drawn pictures are not kept on disk


def test_no_test_picture_is_among_those_adapted_on() -> None:
    for name in ("imagenet-standard", "imagenet-a", "cifar-ssl", "noisy-mnist"):
        track = load_task(name).tracks["mini"]
        table = track.model_dump()
        for side in ("adapt", "test"):  # as they are drawn, before noise
            if name == "noisy-mnist":
                table[side]["generator"] = None
        backbone = load(track.backbones[0], untrained=True)
        stimuli = TrackStimuli(
            Track.model_validate(table), backbone.preprocessing, backbone.labels, None
        )
        adapted, tested = set(), set()
        for target in stimuli.targets:
            episode = stimuli.episode(target, 0)
            adapted |= {image.tobytes() for image in np.concatenate([episode.pos, episode.neg])}
            order = rows_of(range(len(episode.present)))
            tested |= {image.tobytes() for image in episode.make(order)}
        assert adapted and tested and not adapted & tested


@pytest.mark.slow
def test_full_runs_on_folders_as_imagenet_has_them(tmp_path: Path) -> None:
    """1000 folders x 3 pictures, and ImageNet-A's 200, with an untrained network."""
    for split in ("train", "val"):
        for label, wnid in enumerate(WNIDS):
            (tmp_path / "imagenet" / split / wnid).mkdir(parents=True)
            for number in range(3):
                file = tmp_path / "imagenet" / split / wnid / f"{wnid}_{number}.JPEG"
                file.write_bytes(_picture(10 * label + number + 5 * (split == "val")))
    for label, wnid in enumerate(IMAGENET_A_WNIDS):
        (tmp_path / "imagenet-a" / wnid).mkdir(parents=True)
        for number in range(3):
            file = tmp_path / "imagenet-a" / wnid / f"{number}.jpg"
            file.write_bytes(_picture(50_000 + 10 * label + number))
    preprocessing = load("torchvision/squeezenet1_1", untrained=True).preprocessing
    for name, absent in (("imagenet-standard", 597), ("alpha-blend", 597), ("imagenet-a", 597)):
        table = load_task(name).tracks["full"].model_dump()
        table["adapt"]["negatives"] = 50
        table["test"]["negatives"] = "all"
        stimuli = TrackStimuli(Track.model_validate(table), preprocessing, WNIDS, tmp_path)
        assert len(stimuli.targets) == 200
        episode = stimuli.episode("n03417042", 0)  # garbage truck
        assert episode.label == 569 and len(episode.rivals) == 200
        assert len(episode.pos) == 3
        assert (episode.present.sum(), (~episode.present).sum()) == (3, absent)
        assert episode.make(rows_of([0, 1, 599])).shape == (3, 3, 224, 224)
