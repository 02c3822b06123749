"""Stimuli: contents of episodes, reproducibility, preprocessing, and damaged or missing data."""

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
from attnbench.stimuli.embedded import Digits
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.stimuli.gallery import denormalise, draw_gallery
from attnbench.stimuli.generators import noise
from attnbench.stimuli.image_sets import _noise_rng
from attnbench.stimuli.opening import open_dataset
from attnbench.stimuli.preprocessing import resize_and_crop
from attnbench.tasks import HubSource, Track, load_task

DATA = Path(os.environ.get("ATTNBENCH_DATA", Path(__file__).parents[2] / "shared" / "data"))
UNNORMALISED = Preprocessing(size=28, resize=28, mean=(0.0,) * 3, std=(1.0,) * 3)


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
    for image_set in ("adapt", "test"):
        table[image_set]["generator"] = {"kind": "noise", "sigma": sigma}
    return Track.model_validate(table)


def _stimuli(track: Track, labels: tuple[str, ...] | None = None) -> TrackStimuli:
    return TrackStimuli(track, UNNORMALISED, labels, None)


def test_noise_is_gaussian_additive_and_unclipped() -> None:
    images = np.full((8, 3, 64, 64), 0.5, np.float32)
    added = noise(images, 0.8, np.random.default_rng(0)) - images
    assert np.array_equal(added[:, 0], added[:, 1]) and np.array_equal(added[:, 0], added[:, 2])
    assert added.dtype == np.float32
    assert added.mean() == pytest.approx(0, abs=0.02)
    assert added.std() == pytest.approx(0.8, abs=0.01)
    assert added.min() < -1.5 and added.max() > 1.5
    within_one_sigma = np.abs(added) < 0.8
    assert within_one_sigma.mean() == pytest.approx(0.6827, abs=0.01)
    assert np.array_equal(noise(images, 0.0, np.random.default_rng(0)), images)


def test_adaptation_and_test_images_have_noise_that_differs_between_images() -> None:
    clean, noisy = _stimuli(_digits_track()), _stimuli(_noisy_track(0.7))
    clean_episode, noisy_episode = clean.episode("3", 0), noisy.episode("3", 0)
    order = rows_of(range(10))
    pairs = [
        (clean_episode.pos, noisy_episode.pos),
        (clean_episode.neg, noisy_episode.neg),
        (clean_episode.make(order), noisy_episode.make(order)),
    ]
    for clean_images, noisy_images in pairs:
        added = noisy_images - clean_images
        assert added.std() == pytest.approx(0.7, abs=0.03)
        assert not np.allclose(added[0], added[1])
    # The fingerprint is over pictures before any generator.
    assert clean_episode.fingerprint == noisy_episode.fingerprint


def test_an_episode_is_reproducible_and_depends_on_the_seed() -> None:
    first, second = (_stimuli(_noisy_track(0.5)).episode("7", 0) for _ in range(2))
    order = rows_of(range(50))
    assert np.array_equal(first.pos, second.pos) and np.array_equal(first.neg, second.neg)
    assert np.array_equal(first.make(order), second.make(order))
    assert (first.image_ids, first.fingerprint) == (second.image_ids, second.fingerprint)
    other_seed = _stimuli(_noisy_track(0.5)).episode("7", 1)
    assert other_seed.fingerprint != first.fingerprint
    assert not np.array_equal(other_seed.pos, first.pos)


def test_a_test_image_does_not_depend_on_order_or_batch() -> None:
    episode = _stimuli(_noisy_track(0.5)).episode("1", 0)
    order = rows_of(range(50))
    images = np.concatenate([episode.make(batch) for batch in episode.batches(order)])[:50]
    order = np.random.default_rng(0).permutation(50)
    shuffled = np.concatenate([episode.make(batch) for batch in episode.batches(order)])[:50]
    assert np.array_equal(shuffled, images[order])
    assert np.array_equal(episode.make(rows_of([17]))[0], images[17])


def test_noise_cannot_be_reproduced_without_the_clean_picture() -> None:
    """Different pictures with the same seed, role and index get different noise."""
    black, grey = np.zeros((3, 8, 8), np.uint8), np.ones((3, 8, 8), np.uint8)
    first, second, other = (
        _noise_rng(0, 1, 7, picture).standard_normal(4) for picture in (black, black, grey)
    )
    assert np.array_equal(first, second) and not np.allclose(first, other)


@pytest.mark.parametrize("count", [1, 5, 16, 50, 240, 450, 2200])
def test_batches_have_equal_size_and_contain_every_image(count: int) -> None:
    episode = _stimuli(_noisy_track(0.5)).episode("1", 0)
    order = np.random.default_rng(0).permutation(count)
    batches = list(episode.batches(order))
    assert len({len(batch) for batch in batches}) == 1
    assert len(batches) >= min(count, 3)
    presented = np.concatenate(batches)
    assert np.array_equal(presented[:count], order) and len(presented) < count * 1.1 + 8


def test_an_episode_has_the_images_that_the_task_asks_for() -> None:
    track = load_task("noisy-mnist").tracks["mini"]
    source = Digits("test")
    episode = _stimuli(track).episode("4", 0)
    names = [name.split("/") for name in episode.image_ids]
    assert np.array_equal([digit == "4" for _, digit, _ in names], episode.present)
    assert all(int(number) < (source.labels == int(digit)).sum() for _, digit, number in names)
    assert (episode.present.sum(), (~episode.present).sum()) == (60, 400)
    assert len(set(episode.image_ids)) == len(episode.image_ids)
    assert len(episode.pos) == 20 and len(episode.neg) == 20


def test_every_digit_is_in_exactly_one_split() -> None:
    from sklearn.datasets import load_digits

    found = [
        (picture.tobytes(), label)
        for source in map(Digits, ("pretrain", "adapt", "test"))
        for picture, label in zip(
            source.load(range(len(source.labels))), source.labels, strict=True
        )
    ]
    pixels, labels = load_digits(return_X_y=True)
    grey = np.rint(pixels.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    pictures = [picture.tobytes() for picture in grey.repeat(3, axis=1)]
    assert sorted(found) == sorted(zip(pictures, labels, strict=True))
    # The data set has no duplicates, so equal bytes would mean a picture in two splits.
    assert len(set(pictures)) == len(pictures)


def test_figures_differ_between_splits_and_do_not_depend_on_what_else_is_drawn() -> None:
    pictures = figures.draw("adapt", 3, np.arange(6))
    assert pictures.shape == (6, 3, 48, 48) and pictures.dtype == np.uint8
    assert np.array_equal(figures.draw("adapt", 3, np.array([4]))[0], pictures[4])
    assert not np.array_equal(figures.draw("test", 3, np.arange(6)), pictures)
    assert len({picture.tobytes() for picture in pictures}) == 6


def test_a_target_has_a_label_only_if_it_is_among_the_backbones_labels() -> None:
    assert _stimuli(_digits_track()).episode("2", 0).label is None
    assert _stimuli(_digits_track(), ("x", "y")).episode("2", 0).label is None
    assert _stimuli(_digits_track(), ("9", "2")).episode("2", 0).label == 1


def test_the_error_for_too_few_images_or_an_unknown_target_gives_the_facts() -> None:
    table = _digits_track().model_dump()
    table["test"]["positives"] = 5000
    with pytest.raises(AttnbenchError, match=r"digits-test has \d+ pictures of 0.*5000"):
        _stimuli(Track.model_validate(table)).episode("0", 0)
    with pytest.raises(AttnbenchError, match=r"'eleven' is not a class of digits-adapt.*0, 1, 2"):
        _stimuli(_digits_track(targets=["eleven"]))


@pytest.mark.parametrize("shape", [(300, 400), (401, 299), (64, 64), (20, 33)])
def test_resizing_equals_torchvisions(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (3, *shape), dtype=np.uint8)
    cropped = resize_and_crop(picture, Preprocessing(56, 64, (0.5,) * 3, (0.5,) * 3))
    expected = functional.resize(torch.from_numpy(picture), [64], antialias=True)
    assert np.array_equal(cropped, functional.center_crop(expected, [56]).numpy())


def test_preprocessing_agrees_with_that_of_the_published_weights() -> None:
    """Compare it with torchvision's preset for VGG-16, which works on floats instead of uint8."""
    preset = VGG16_Weights.IMAGENET1K_V1.transforms()
    mean, std = tuple(preset.mean), tuple(preset.std)
    preprocessing = Preprocessing(size=224, resize=256, mean=mean, std=std)
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(patches).resize((400, 300), Image.Resampling.BICUBIC))
    pixels = resize_and_crop(picture.transpose(2, 0, 1), preprocessing)
    expected = preset(torch.from_numpy(picture.transpose(2, 0, 1).copy()))
    expected_pixels = denormalise(expected[None].numpy(), preprocessing)[0]
    assert pixels.shape == (3, 224, 224)
    assert np.abs(expected_pixels - pixels / 255).max() < 1.5 / 255


def _png(value: int, size: tuple[int, int] = (20, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", size, value).save(buffer, "PNG")
    return buffer.getvalue()


def _hub_folder(folder: Path, broken_row: int | None = None) -> Path:
    """Write a hub-style data set: a Parquet file of 20 grey pictures of two classes.

    Args:
        folder: the data folder.
        broken_row: a row whose picture is truncated, if any.
    """
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


MADE_UP = HubSource(kind="hub", hub="nobody/made", folder="made", split="train")


def test_parquet_files_in_a_folder_are_read(tmp_path: Path) -> None:
    source = open_dataset(MADE_UP, _hub_folder(tmp_path))
    assert source.classes == ("odd", "even")
    # Sorted by class; within a class, in the order of the file.
    assert source.labels.tolist() == [0] * 10 + [1] * 10
    (picture,) = source.load([7])
    assert picture.shape == (3, 30, 20) and (picture == 14).all()


def test_the_error_for_a_broken_picture_names_file_and_row(tmp_path: Path) -> None:
    source = open_dataset(MADE_UP, _hub_folder(tmp_path, broken_row=5))
    source.load([11, 13])
    with pytest.raises(AttnbenchError, match=r"made/data/train-00000-of-00001\.parquet, row 5: "):
        source.load([11, 12])


def test_the_error_for_missing_data_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(AttnbenchError, match=r"no data for nobody/made: there is no folder .*made"):
        open_dataset(MADE_UP, tmp_path)
    (tmp_path / "made").mkdir()
    with pytest.raises(
        AttnbenchError, match=r"found no pictures in .*Parquet files.* or one folder of pictures"
    ):
        open_dataset(MADE_UP, tmp_path)


@pytest.mark.parametrize("task", ["alpha-blend", "noisy-mnist"])
def test_the_gallery_is_a_png_with_content(tmp_path: Path, task: str) -> None:
    out = tmp_path / "gallery.png"
    draw_gallery(load_task(task), "mini", out, None)
    with Image.open(out) as picture:
        assert picture.format == "PNG" and min(picture.size) > 300
        # The standard deviation of grey levels would be near 0 on a blank page.
        assert np.asarray(picture.convert("L")).std() > 20


@pytest.mark.small
@pytest.mark.skipif(not (DATA / "mnist").is_dir(), reason=f"no MNIST in {DATA}")
def test_mnist_from_a_folder() -> None:
    track = load_task("noisy-mnist").tracks["small"]
    stimuli = TrackStimuli(track, UNNORMALISED, tuple("0123456789"), DATA)
    assert stimuli.targets == tuple("0123456789")
    episode = stimuli.episode("8", 0)
    assert (~episode.present).sum() >= 2000
    assert episode.label == 8
    adaptation_set = open_dataset(track.adapt.source, DATA)  # type: ignore[arg-type]
    assert len(adaptation_set.labels) == 10_000
