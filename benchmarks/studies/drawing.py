"""Does a network that draws what it glimpses learn to segment, without any label?

    python -m benchmarks.studies.drawing [--epochs 8] [--write]
    python -m benchmarks.studies.drawing --faces 20000 [--data DIR] --gallery faces.png

STAWM (Harris et al. 2019, arXiv 1901.03665) learns to paint the figures of `mini` from eight glimpses.
Each glimpse has a mask. The study compares masks with the figure's own, which the generator knows, by
intersection over union. A map is cut at the threshold that is best on pictures that are not tested.
Then a second query to the same memory is trained with labels, and the pictures that it gets wrong are
shown beside their drawings. `--write` writes the tables and the galleries of docs/drawing.md. `--faces`
learns to paint faces of CelebA instead, for which there are no masks.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import uniform_filter
from tabulate import tabulate

from attnbench.statistics.curves import Estimate, mean_estimate
from attnbench.stimuli import figures
from attnbench.stimuli.preprocessing import in_unit_range, resize_and_crop
from benchmarks.studies.pages import DOCS, write_block
from pretraining.faces import load_faces
from pretraining.recipes import TrainingSet
from pretraining.stawm.drawing import Drawing, PaintingAutoencoder, train_to_paint
from pretraining.stawm.network import StawmEncoder, untrained_stawm
from pretraining.stawm.probe import GlimpseFeatures, PublishedProbe, train_probe

PAGE = DOCS / "drawing.md"
GALLERY, MISTAKES = DOCS / "images" / "drawing.png", DOCS / "images" / "drawing-mistakes.png"
TRAINED, TUNED, TESTED = 150, 5, 10  # pictures of each class
_SHOWN, _SCALE, _GAP = 6, 2, 4  # pictures in the gallery, their magnification, and pixels between
Maps = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Pictures:
    """Pictures of figures, at the size that the network sees.

    Attributes:
        pixels: uint8 `[n, 3, 32, 32]`.
        masks: where the figure is, bool `[n, 32, 32]`.
        labels: the class of the figure, int64 `[n]`.
    """

    pixels: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    labels: NDArray[np.int64]

    @property
    def images(self) -> NDArray[np.float32]:
        """The pixels in [0, 1], float32."""
        return in_unit_range(self.pixels)


def draw_pictures(split: str, per_class: int) -> Pictures:
    """Draw the first pictures of each class.

    Args:
        split: see `attnbench.stimuli.figures.draw`.
        per_class: the number of each class.
    """
    preprocessing = untrained_stawm("drawing").preprocessing
    indices, labels = np.arange(per_class), range(len(figures.CLASSES))
    pixels = np.concatenate([figures.draw(split, label, indices) for label in labels])
    covered = np.concatenate([figures.masks(split, label, indices) for label in labels])
    size = (preprocessing.size,) * 2
    shares = torch.nn.functional.interpolate(torch.from_numpy(covered)[:, None], size, mode="area")
    resized = np.stack([resize_and_crop(picture, preprocessing) for picture in pixels])
    return Pictures(resized, shares[:, 0].numpy() > 0.5, np.repeat(np.array(labels), per_class))


def paint(model: PaintingAutoencoder, images: NDArray[np.float32]) -> Drawing:
    """Return the model's drawing of images `[n, 3, 32, 32]`, without samples."""
    with torch.no_grad():
        return model.draw(torch.from_numpy(images))


def saliency(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the distance of each pixel's colour from the picture's mean colour, `[n, h, w]`.

    Frequency-tuned saliency (Achanta et al. 2009, doi:10.1109/CVPR.2009.5206596), on RGB in place of
    Lab, after a blur over 3 x 3 pixels.

    Args:
        images: `[n, 3, h, w]` in [0, 1].
    """
    blurred = uniform_filter(images, (1, 1, 3, 3))
    distances: NDArray[np.float32] = np.linalg.norm(
        blurred - images.mean((2, 3), keepdims=True), axis=1
    )
    return distances


def centre(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how close each pixel is to the centre of the picture, `[n, h, w]`."""
    side = np.linspace(-1, 1, images.shape[2], dtype=np.float32)
    one = -np.hypot(side[:, None], side[None, :])
    return np.repeat(one[None], len(images), axis=0)


def overlap(marked: NDArray[np.bool_], masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return intersection over union of each picture's two regions `[n, h, w]`; 0 if both are empty."""
    both, either = (marked & masks).sum((1, 2)), (marked | masks).sum((1, 2))
    return np.asarray(both / np.maximum(either, 1), np.float64)


def best_threshold(maps: Maps, masks: NDArray[np.bool_]) -> float:
    """Return the threshold at which maps `[n, h, w]` have the largest mean overlap with masks."""
    candidates = np.quantile(maps, np.linspace(0.02, 0.98, 49))
    return float(max(candidates, key=lambda threshold: overlap(maps > threshold, masks).mean()))


def overlaps(
    model: PaintingAutoencoder, tuned: Pictures, tested: Pictures
) -> tuple[dict[str, Estimate], Drawing]:
    """Return the overlap of each kind of map with the figures, and the drawing of tested pictures.

    The best glimpse is the one with the largest overlap on the tuned pictures.
    """
    drawings = [paint(model, pictures.images) for pictures in (tuned, tested)]
    on_tuned, on_tested = (drawing.masks.numpy() for drawing in drawings)
    glimpses = range(on_tuned.shape[1])
    found = [_cut(on_tuned[:, g], on_tested[:, g], tuned, tested) for g in glimpses]
    best = max(glimpses, key=lambda g: found[g][0])
    rows: dict[str, NDArray[np.float64]] = {
        f"mask of the last glimpse, of {len(glimpses)}": found[-1][1],
        f"mask of the best glimpse, number {best + 1}": found[best][1],
    }
    for name, maps_of in (
        ("saliency: distance from the mean colour", saliency),
        ("distance from the centre", centre),
    ):
        rows[name] = _cut(maps_of(tuned.images), maps_of(tested.images), tuned, tested)[1]
    order = np.random.default_rng(0).permutation(len(tested.masks))
    rows["chance: the figure of another picture"] = overlap(tested.masks[order], tested.masks)
    return {name: mean_estimate(values) for name, values in rows.items()}, drawings[1]


def _cut(
    on_tuned: Maps, on_tested: Maps, tuned: Pictures, tested: Pictures
) -> tuple[float, NDArray[np.float64]]:
    """Return the mean overlap on tuned pictures, and that of each tested picture, at one threshold."""
    threshold = best_threshold(on_tuned, tuned.masks)
    on_these = overlap(on_tuned > threshold, tuned.masks)
    return float(on_these.mean()), overlap(on_tested > threshold, tested.masks)


def squared_errors(drawing: Drawing, images: NDArray[np.float32]) -> dict[str, float]:
    """Return the mean squared error of a pixel: of drawings, and of the picture's mean colour."""
    mean_colour = images.mean((2, 3), keepdims=True)
    first, last = (drawing.canvases[:, number].numpy() for number in (0, -1))
    return {
        "after the first glimpse": float(((first - images) ** 2).mean()),
        "after the last glimpse": float(((last - images) ** 2).mean()),
        "the picture's mean colour": float(((mean_colour - images) ** 2).mean()),
    }


def gallery(
    drawing: Drawing, pixels: NDArray[np.uint8], masks: NDArray[np.bool_] | None
) -> Image.Image:
    """Return rows of: a picture, the canvas after each glimpse, the last mask, the figure's mask.

    Args:
        drawing: of the pictures.
        pixels: uint8 `[n, 3, h, w]`.
        masks: bool `[n, h, w]`, or None if they are not known.
    """
    step = max(1, len(pixels) // _SHOWN)
    rows = []
    for number in range(0, min(len(pixels), step * _SHOWN), step):
        canvases = (255 * drawing.canvases[number].numpy()).round().astype(np.uint8)
        shown = [drawing.masks[number, -1].numpy()]
        shown += [] if masks is None else [masks[number].astype(np.float32)]
        grey = [np.repeat((255 * mask).astype(np.uint8)[None], 3, axis=0) for mask in shown]
        rows.append([pixels[number], *canvases, *grey])
    return _sheet(rows)


def _sheet(rows: Sequence[Sequence[NDArray[np.uint8]]]) -> Image.Image:
    """Return pictures `[3, h, w]` side by side in rows, enlarged."""
    strips = []
    for tiles in rows:
        enlarged = [tile.repeat(_SCALE, axis=1).repeat(_SCALE, axis=2) for tile in tiles]
        padded = [np.pad(tile, ((0, 0), (0, _GAP), (0, _GAP))) for tile in enlarged]
        strips.append(np.concatenate(padded, axis=2))
    sheet = np.concatenate(strips, axis=1)[:, :-_GAP, :-_GAP]
    return Image.fromarray(np.ascontiguousarray(sheet.transpose(1, 2, 0)))


@dataclass(frozen=True)
class Classified:
    """What a second query to the memory answers.

    Attributes:
        error: the share of tested pictures that it gets wrong.
        parameters: what was trained with labels.
        mistakes: a sheet of pictures that it gets wrong, each above its drawing; None without any.
        names: for each of these, the class and the answer.
    """

    error: float
    parameters: int
    mistakes: Image.Image | None
    names: tuple[tuple[str, str], ...]


def classify(
    model: PaintingAutoencoder, trained: Pictures, tested: Pictures, epochs: int = 50
) -> Classified:
    """Train a second query to the memory with labels, and show what it gets wrong.

    The drawing comes from the same memory, so it shows what the network remembered of a picture.
    """
    encoder = cast(StawmEncoder, model.backbone.stage("memory"))
    extractor = GlimpseFeatures(encoder)
    with torch.no_grad():
        features = [
            torch.cat([extractor(images) for images in torch.from_numpy(each.images).split(500)])
            for each in (trained, tested)
        ]
    torch.manual_seed(0)
    probe = PublishedProbe(encoder.memory, classes=len(figures.CLASSES))
    train_probe(probe, features[0], torch.from_numpy(trained.labels), epochs)
    with torch.no_grad():
        answers = probe(features[1]).argmax(1).numpy()
    (wrong,) = np.nonzero(answers != tested.labels)
    chosen = wrong[:: max(1, len(wrong) // _SHOWN)][:_SHOWN]
    mistakes = None
    if len(chosen):
        canvases = paint(model, tested.images[chosen]).canvases[:, -1].numpy()
        drawn = (255 * canvases).round().astype(np.uint8)
        mistakes = _sheet([list(tested.pixels[chosen]), list(drawn)])
    return Classified(
        error=len(wrong) / len(answers),
        parameters=sum(parameter.numel() for parameter in probe.parameters()),
        mistakes=mistakes,
        names=tuple(
            (figures.CLASSES[tested.labels[row]], figures.CLASSES[answers[row]]) for row in chosen
        ),
    )


def report(
    losses: Sequence[float], errors: Mapping[str, float], rows: Mapping[str, Estimate]
) -> str:
    """Return the tables of overlaps and errors in Markdown."""
    overlap_rows = [
        [name, f"{each.value:.3f} [{each.low:.3f}, {each.high:.3f}]"] for name, each in rows.items()
    ]
    parts = [
        _losses(losses, TRAINED * len(figures.CLASSES)),
        tabulate(overlap_rows, ["region", "intersection over union"], "github"),
        _error_table(errors),
    ]
    return "\n\n".join(parts)


def answers_table(classified: Classified) -> str:
    """Return what the second query answers, and its mistakes by name, in Markdown."""
    return (
        f"Error on {TESTED * len(figures.CLASSES)} pictures of {len(figures.CLASSES)} classes: "
        f"{classified.error:.1%}, with {classified.parameters:,} parameters trained with labels. "
        "The pictures from left to right:\n\n"
        + tabulate(classified.names, ["shown", "answered"], "github")
    )


def _losses(losses: Sequence[float], pictures: int) -> str:
    return (
        f"{len(losses)} epochs over {pictures:,} pictures; loss of an image {losses[0]:.1f} in the "
        f"first epoch and {losses[-1]:.1f} in the last."
    )


def _error_table(errors: Mapping[str, float]) -> str:
    rows = [[name, f"{value:.4f}"] for name, value in errors.items()]
    return tabulate(rows, ["drawing", "mean squared error"], "github")


def paint_faces(count: int, epochs: int, data: Path | None, out: Path) -> str:
    """Learn to paint faces, draw a gallery of others, and return what was measured."""
    backbone = untrained_stawm("faces")
    model = PaintingAutoencoder(backbone)
    trained = load_faces(backbone.preprocessing, data, "train", count)
    labels = torch.zeros(len(trained), dtype=torch.int64)
    losses = train_to_paint(
        model, TrainingSet(trained, labels, backbone.preprocessing), epochs=epochs
    )
    tested = load_faces(backbone.preprocessing, data, "valid", 200)
    drawing = paint(model, in_unit_range(tested))
    gallery(drawing, tested, None).save(out)
    errors = squared_errors(drawing, in_unit_range(tested))
    return _losses(losses, len(trained)) + "\n\n" + _error_table(errors)


def main() -> None:
    """Train, and print or write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=8, help="default: 8")
    parser.add_argument("--write", action="store_true", help="write docs/drawing.md's tables")
    parser.add_argument("--faces", type=int, help="learn this many faces of CelebA instead")
    parser.add_argument("--data", type=Path, help="the folder with `celeba` (default: the hub)")
    parser.add_argument("--gallery", type=Path, default=Path("faces.png"), help="of the faces")
    options = parser.parse_args()
    if options.faces is not None:
        print(paint_faces(options.faces, options.epochs, options.data, options.gallery))
        return
    backbone = untrained_stawm("drawing")
    model = PaintingAutoencoder(backbone)
    trained = draw_pictures("pretrain", TRAINED)
    labels = torch.zeros(len(trained.pixels), dtype=torch.int64)
    training_set = TrainingSet(trained.pixels, labels, backbone.preprocessing)
    losses = train_to_paint(model, training_set, epochs=options.epochs)
    tested = draw_pictures("test", TESTED)
    rows, drawing = overlaps(model, draw_pictures("adapt", TUNED), tested)
    text = report(losses, squared_errors(drawing, tested.images), rows)
    classified = classify(model, trained, tested)
    answers = answers_table(classified)
    print(text, answers, sep="\n\n")
    if options.write:
        write_block(PAGE, "drawing", text)
        write_block(PAGE, "answers", answers)
        gallery(drawing, tested.pixels, tested.masks).save(GALLERY)
        if classified.mistakes is not None:
            classified.mistakes.save(MISTAKES)


if __name__ == "__main__":
    main()
