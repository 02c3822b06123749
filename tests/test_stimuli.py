"""Stimuli: what is on each side, that it is the same each time, and where data is damaged."""

from __future__ import annotations

import io
import os
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
from torchvision.models import VGG16_Weights
from torchvision.transforms.v2 import functional

from attnbench.backbones.backbone import Preprocessing
from attnbench.errors import AttnbenchError
from attnbench.stimuli import figures
from attnbench.stimuli.datasets import open_dataset
from attnbench.stimuli.embedded import Digits
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.stimuli.gallery import draw_gallery, visible
from attnbench.stimuli.generators import noise
from attnbench.stimuli.preparing import resize_and_crop
from attnbench.tasks import HubSource, Track, load_task

DATA = Path(os.environ.get("ATTNBENCH_DATA", Path(__file__).parents[2] / "shared" / "data"))
PLAIN = Preprocessing(size=28, resize=28, mean=(0.0,) * 3, std=(1.0,) * 3)


def _digits_track(**changes: Any) -> Track:
    sample = {"positives": 20, "negatives": 30}
    table: dict[str, Any] = {
        "backbones": ["shipped/digits-cnn"],
        "targets": "all",
        "timeout": 10,
        "adapt": sample | {"source": {"kind": "digits", "split": "adapt"}},
        "test": sample | {"source": {"kind": "digits", "split": "test"}},
    }
    return Track.model_validate(table | changes)


def _noisy_track(sigma: float) -> Track:
    table = _digits_track().model_dump()
    for side in ("adapt", "test"):
        table[side]["generator"] = {"kind": "noise", "sigma": sigma}
    return Track.model_validate(table)


def _stimuli(track: Track, labels: tuple[str, ...] | None = None) -> TrackStimuli:
    return TrackStimuli(track, PLAIN, labels, None)


def test_noise_is_gaussian_additive_and_unclipped() -> None:
    images = np.full((8, 3, 64, 64), 0.5, np.float32)
    added = noise(images, 0.8, np.random.default_rng(0)) - images
    assert np.array_equal(added[:, 0], added[:, 1]) and np.array_equal(added[:, 0], added[:, 2])
    assert added.dtype == np.float32
    assert added.mean() == pytest.approx(0, abs=0.02)
    assert added.std() == pytest.approx(0.8, abs=0.01)
    assert added.min() < -1.5 and added.max() > 1.5
    within = np.abs(added) < 0.8
    assert within.mean() == pytest.approx(0.6827, abs=0.01)
    assert np.array_equal(noise(images, 0.0, np.random.default_rng(0)), images)


def test_noise_is_on_adaptation_and_test_images_alike_and_differs_between_images() -> None:
    clean, noisy = _stimuli(_digits_track()), _stimuli(_noisy_track(0.7))
    before, after = clean.episode("3", 0), noisy.episode("3", 0)
    order = rows_of(range(10))
    pairs = [
        (before.pos, after.pos),
        (before.neg, after.neg),
        (before.make(order), after.make(order)),
    ]
    for one, other in pairs:
        added = other - one
        assert added.std() == pytest.approx(0.7, abs=0.03)
        assert not np.allclose(added[0], added[1])
    assert before.fingerprint == after.fingerprint


def test_an_episode_is_the_same_each_time_and_another_with_another_seed() -> None:
    first, again = (_stimuli(_noisy_track(0.5)).episode("7", 0) for _ in range(2))
    order = rows_of(range(50))
    assert np.array_equal(first.pos, again.pos) and np.array_equal(first.neg, again.neg)
    assert np.array_equal(first.make(order), again.make(order))
    assert (first.image_ids, first.fingerprint) == (again.image_ids, again.fingerprint)
    other = _stimuli(_noisy_track(0.5)).episode("7", 1)
    assert other.fingerprint != first.fingerprint
    assert not np.array_equal(other.pos, first.pos)


def test_a_test_image_is_the_same_in_any_order_and_batch() -> None:
    episode = _stimuli(_noisy_track(0.5)).episode("1", 0)
    whole = np.concatenate([episode.make(b) for b in episode.batches(rows_of(range(50)))])[:50]
    order = np.random.default_rng(0).permutation(50)
    shuffled = np.concatenate([episode.make(batch) for batch in episode.batches(order)])[:50]
    assert np.array_equal(shuffled, whole[order])
    assert np.array_equal(episode.make(rows_of([17]))[0], whole[17])


def test_noise_cannot_be_drawn_again_without_the_clean_picture() -> None:
    """Seed and number alone do not tell it: of two pictures with the same number it differs."""
    from attnbench.stimuli.sides import _noise_source

    one, other = np.zeros((3, 8, 8), np.uint8), np.ones((3, 8, 8), np.uint8)
    drawn = [_noise_source(0, 1, 7, each).standard_normal(4) for each in (one, one, other)]
    assert np.array_equal(drawn[0], drawn[1]) and not np.allclose(drawn[0], drawn[2])


@pytest.mark.parametrize("count", [1, 5, 16, 50, 240, 450, 2200])
def test_batches_are_of_one_size_and_hold_every_image(count: int) -> None:
    episode = _stimuli(_noisy_track(0.5)).episode("1", 0)
    order = np.random.default_rng(0).permutation(count)
    batches = list(episode.batches(order))
    assert len({len(batch) for batch in batches}) == 1
    assert len(batches) >= min(count, 3)
    shown = np.concatenate(batches)
    assert np.array_equal(shown[:count], order) and len(shown) < count * 1.1 + 8


def test_sides_hold_what_they_say() -> None:
    track = load_task("noisy-mnist").tracks["mini"]
    source = Digits("test")
    episode = _stimuli(track).episode("4", 0)
    parts = [name.split("/") for name in episode.image_ids]
    assert np.array_equal([digit == "4" for _, digit, _ in parts], episode.present)
    assert all(int(number) < (source.labels == int(digit)).sum() for _, digit, number in parts)
    assert (episode.present.sum(), (~episode.present).sum()) == (50, 400)
    assert len(set(episode.image_ids)) == len(episode.image_ids)
    assert len(episode.pos) == 20 and len(episode.neg) == 20


def test_no_digit_is_in_two_splits_and_none_is_lost() -> None:
    from sklearn.datasets import load_digits

    pictures = [
        [picture.tobytes() for picture in source.load(range(len(source.labels)))]
        for source in map(Digits, ("pretrain", "adapt", "test"))
    ]
    assert sum(map(len, pictures)) == len(load_digits().target)
    # the data set itself holds no picture twice, so that equal bytes would be the same picture
    assert len({each for part in pictures for each in part}) == sum(map(len, pictures))


def test_figures_of_different_splits_differ_and_each_can_be_drawn_alone() -> None:
    some = figures.draw("adapt", 3, np.arange(6))
    assert some.shape == (6, 3, 48, 48) and some.dtype == np.uint8
    assert np.array_equal(figures.draw("adapt", 3, np.array([4]))[0], some[4])
    assert not np.array_equal(figures.draw("test", 3, np.arange(6)), some)
    assert len({picture.tobytes() for picture in some}) == 6


def test_a_target_has_a_label_only_where_the_backbone_knows_it() -> None:
    assert _stimuli(_digits_track()).episode("2", 0).label is None
    assert _stimuli(_digits_track(), ("x", "y")).episode("2", 0).label is None
    assert _stimuli(_digits_track(), ("9", "2")).episode("2", 0).label == 1


def test_too_few_images_and_unknown_targets_are_named() -> None:
    table = _digits_track().model_dump()
    table["test"]["positives"] = 5000
    with pytest.raises(AttnbenchError, match=r"digits-test has \d+ images of 0.*5000"):
        _stimuli(Track.model_validate(table)).episode("0", 0)
    with pytest.raises(AttnbenchError, match=r"'eleven' is not a class of digits-adapt.*0, 1, 2"):
        _stimuli(_digits_track(targets=["eleven"]))


@pytest.mark.parametrize("shape", [(300, 400), (401, 299), (64, 64), (20, 33)])
def test_resizing_is_torchvisions(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (3, *shape), dtype=np.uint8)
    ours = resize_and_crop(picture, Preprocessing(56, 64, (0.5,) * 3, (0.5,) * 3))
    resized = functional.resize(torch.from_numpy(picture), [64], antialias=True)
    assert np.array_equal(ours, functional.center_crop(resized, [56]).numpy())


def test_preprocessing_is_that_of_the_published_weights() -> None:
    """Ours on uint8 against torchvision's own preset for VGG-16."""
    preset = VGG16_Weights.IMAGENET1K_V1.transforms()
    mean, std = tuple(preset.mean), tuple(preset.std)
    ours = Preprocessing(size=224, resize=256, mean=mean, std=std)
    rng = np.random.default_rng(0)
    low = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(low).resize((400, 300), Image.Resampling.BICUBIC))
    pixels = resize_and_crop(picture.transpose(2, 0, 1), ours)
    expected = preset(torch.from_numpy(picture.transpose(2, 0, 1).copy()))
    shown = visible(expected[None].numpy(), ours)[0]
    assert pixels.shape == (3, 224, 224)
    assert np.abs(shown - pixels / 255).max() < 1.5 / 255


def _png(value: int, size: tuple[int, int] = (20, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", size, value).save(buffer, "PNG")
    return buffer.getvalue()


def _hub_folder(folder: Path, broken_row: int | None = None) -> Path:
    """A hub-style dataset: Parquet with grey images of two classes, and maybe a broken one."""
    images = [{"bytes": _png(i), "path": None} for i in range(20)]
    if broken_row is not None:
        images[broken_row]["bytes"] = images[broken_row]["bytes"][:40]
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["odd", "even"])}
    )
    columns = {"image": images, "label": [i % 2 for i in range(20)]}
    (folder / "made" / "data").mkdir(parents=True)
    table = pa.table(columns, schema=features.arrow_schema)
    pq.write_table(table, folder / "made" / "data" / "train-00000-of-00001.parquet")
    return folder


MADE = HubSource(kind="hub", hub="nobody/made", folder="made", split="train")


def test_a_hub_layout_in_a_folder_is_read(tmp_path: Path) -> None:
    source = open_dataset(MADE, _hub_folder(tmp_path))
    assert source.classes == ("odd", "even")
    # ordered by class, within a class as in the file
    assert source.labels.tolist() == [0] * 10 + [1] * 10
    (picture,) = source.load([7])
    assert picture.shape == (3, 30, 20) and (picture == 14).all()


def test_a_broken_image_is_named_by_dataset_class_and_number(tmp_path: Path) -> None:
    source = open_dataset(MADE, _hub_folder(tmp_path, broken_row=5))
    source.load([11, 13])
    with pytest.raises(AttnbenchError, match="made-train/even/2: the image cannot be decoded"):
        source.load([11, 12])


def test_data_that_is_not_there_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(AttnbenchError, match=r"no data for nobody/made: .*made is not a folder"):
        open_dataset(MADE, tmp_path)
    (tmp_path / "made").mkdir()
    with pytest.raises(AttnbenchError, match=r"neither Parquet files nor a folder of pictures"):
        open_dataset(MADE, tmp_path)


@pytest.mark.parametrize("task", ["alpha-blend", "noisy-mnist"])
def test_the_gallery_is_a_picture(tmp_path: Path, task: str) -> None:
    out = tmp_path / "gallery.png"
    draw_gallery(load_task(task), "mini", out, None)
    with Image.open(out) as picture:
        assert picture.format == "PNG" and min(picture.size) > 300
        # colours and noise: not a blank page
        assert np.asarray(picture.convert("L")).std() > 20


@pytest.mark.small
@pytest.mark.skipif(not (DATA / "mnist").is_dir(), reason=f"no MNIST in {DATA}")
def test_mnist_from_a_folder() -> None:
    track = load_task("noisy-mnist").tracks["small"]
    stimuli = TrackStimuli(track, PLAIN, tuple("0123456789"), DATA)
    assert stimuli.targets == tuple("0123456789")
    episode = stimuli.episode("8", 0)
    assert (~episode.present).sum() >= 2000
    assert episode.label == 8
    adapted = open_dataset(track.adapt.source, DATA)  # type: ignore[arg-type]
    assert len(adapted.labels) == 10_000
