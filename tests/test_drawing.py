"""Drawings of glimpses: what they are made of, and how their masks are compared with figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets
from PIL import Image

from attnbench.errors import AttnbenchError
from benchmarks.studies.drawing import (
    Pictures,
    best_threshold,
    classify,
    draw_pictures,
    gallery,
    overlap,
    overlaps,
    paint,
    paint_faces,
    saliency,
    squared_errors,
)
from pretraining.recipes import TrainingSet
from pretraining.stawm.drawing import PaintingAutoencoder, train_to_paint
from pretraining.stawm.network import GLIMPSES, untrained_stawm


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return draw_pictures("test", 1)


@pytest.fixture
def model() -> PaintingAutoencoder:
    torch.manual_seed(0)
    return PaintingAutoencoder(untrained_stawm("test")).eval()


def test_the_masks_of_pictures_are_those_of_the_figures(pictures: Pictures) -> None:
    assert pictures.pixels.shape == (40, 3, 32, 32) and pictures.masks.shape == (40, 32, 32)
    areas = pictures.masks.mean((1, 2))
    assert (areas > 0.02).all() and (areas < 0.6).all()
    # Warm figures are red inside.
    inside = pictures.images[0].transpose(1, 2, 0)[pictures.masks[0]].mean(0)
    assert inside[0] > inside[2]


def test_a_canvas_is_what_its_masks_and_sketches_make_of_it(
    model: PaintingAutoencoder, pictures: Pictures
) -> None:
    drawing = paint(model, pictures.images[:5])
    assert drawing.canvases.shape == (5, GLIMPSES, 3, 32, 32)
    assert drawing.masks.shape == (5, GLIMPSES, 32, 32)
    assert drawing.windows.shape == (5, GLIMPSES, 2, 3)
    for values in (drawing.canvases, drawing.masks):
        assert float(values.min()) >= 0 and float(values.max()) <= 1
    # Where a glimpse paints nothing, the canvas stays as it was.
    before, after = drawing.canvases[:, :-1], drawing.canvases[:, 1:]
    mask = drawing.masks[:, 1:, None]
    assert ((after - before * (1 - mask)) <= mask + 1e-6).all()
    # No samples: the same images give the same drawing, alone or in company.
    alone = paint(model, pictures.images[:1])
    assert torch.allclose(alone.canvases, drawing.canvases[:1], atol=1e-5)


def test_training_lowers_the_loss_and_the_error(
    model: PaintingAutoencoder, pictures: Pictures
) -> None:
    labels = torch.zeros(len(pictures.pixels), dtype=torch.int64)
    training_set = TrainingSet(pictures.pixels, labels, model.backbone.preprocessing)
    before = squared_errors(paint(model, pictures.images), pictures.images)
    losses = train_to_paint(model, training_set, epochs=12, batch=20)
    after = squared_errors(paint(model, pictures.images), pictures.images)
    assert losses[-1] < losses[0] and not model.training
    assert after["after the last glimpse"] < before["after the last glimpse"]


def test_overlap_is_intersection_over_union() -> None:
    masks = np.zeros((2, 4, 4), bool)
    masks[:, :2] = True  # 8 pixels
    marked = np.zeros((2, 4, 4), bool)
    marked[0, 1:3] = True  # 8 pixels, 4 in common
    assert overlap(marked, masks).tolist() == [4 / 12, 0]
    assert overlap(masks, masks).tolist() == [1, 1]
    maps = np.where(masks, 0.7, 0.2) + np.linspace(0, 0.1, 32).reshape(2, 4, 4)
    assert overlap(maps > best_threshold(maps, masks), masks).min() > 0.8


def test_what_stands_out_is_salient() -> None:
    images = np.full((1, 3, 16, 16), 0.5, np.float32)
    images[0, 0, 4:8, 4:8] = 1.0
    found = saliency(images)[0]
    assert found[5:7, 5:7].min() > 5 * found[10:, 10:].max()


def test_all_regions_are_compared_and_shown(model: PaintingAutoencoder, pictures: Pictures) -> None:
    rows, drawing = overlaps(model, draw_pictures("adapt", 1), pictures)
    assert len(rows) == 5 and all(0 <= each.value <= 1 for each in rows.values())
    by_chance = rows["chance: the figure of another picture"].value
    assert by_chance < rows["saliency: distance from the mean colour"].value
    # Eight canvases between the picture and two masks, six pictures.
    sheet = gallery(drawing, pictures.pixels, pictures.masks)
    assert sheet.size == (11 * 68 - 4, 6 * 68 - 4)


def test_a_second_query_to_the_memory_answers_which_figure_it_is(
    model: PaintingAutoencoder, pictures: Pictures
) -> None:
    learned = classify(model, pictures, pictures, epochs=300)
    # 40 pictures of 40 classes, by heart.
    assert learned.error == 0 and learned.mistakes is None and not learned.names
    assert learned.parameters == 512 * 256 + 256 + 3 + 256 * 40 + 40
    others = classify(model, pictures, draw_pictures("adapt", 1), epochs=1)
    assert others.error > 0.5 and len(others.names) == 6
    assert all(shown != answered for shown, answered in others.names)
    assert others.mistakes is not None
    assert others.mistakes.size == (6 * 68 - 4, 2 * 68 - 4)


def test_faces_are_painted_from_the_folder_of_torchvision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made-up faces in CelebA's layout; only the checksums of the real files are not checked."""
    monkeypatch.setattr(torchvision.datasets.CelebA, "file_list", [])
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{number:06}.jpg" for number in range(1, 13)]
    rng = np.random.default_rng(0)
    for name in names:
        pixels = rng.integers(0, 256, (218, 178, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "img_align_celeba" / name)
    splits = [0] * 8 + [1] * 4
    lines = "\n".join(f"{name} {split}" for name, split in zip(names, splits, strict=True))
    (folder / "list_eval_partition.txt").write_text(lines)
    (folder / "identity_CelebA.txt").write_text("\n".join(f"{name} 1" for name in names))
    for file, width in (("list_bbox_celeba", 4), ("list_landmarks_align_celeba", 10)):
        rows = [f"{name} {' '.join(['1'] * width)}" for name in names]
        heads = " ".join(f"h{number}" for number in range(width))
        (folder / f"{file}.txt").write_text("\n".join(["12", heads, *rows]))
    rows = "\n".join(f"{name} 1" for name in names)
    (folder / "list_attr_celeba.txt").write_text(f"12\nSmiling\n{rows}")

    text = paint_faces(8, 1, tmp_path, tmp_path / "faces.png")
    assert "1 epochs over 8 pictures" in text and "after the last glimpse" in text
    # Four faces: the picture, eight canvases, the last mask.
    assert Image.open(tmp_path / "faces.png").size == (10 * 68 - 4, 4 * 68 - 4)
    with pytest.raises(AttnbenchError, match="is not CelebA as"):
        paint_faces(8, 1, tmp_path / "elsewhere", tmp_path / "faces.png")
