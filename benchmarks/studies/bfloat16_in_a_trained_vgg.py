"""How much do the results of methods change if a large network computes in bfloat16?

    python -m benchmarks.studies.bfloat16_in_a_trained_vgg ../shared/data [SUBMISSION…]

Weights of such a network are not available offline. So a VGG with 9.2 million parameters is trained
first, on CIFAR-10 (six epochs, a quarter of an hour on two cores). Each submission adapts to
each of the ten classes, on 64 + 64 training images with noise, and its detector scores 4,000 test
images with noise. It does so in float32, and with the frozen part in bfloat16. For comparison, it
also adapts in float32 to images that differ by one part in 100,000, which shows the effect of
rounding of any kind.
"""

from __future__ import annotations

import copy
import sys
from collections import defaultdict
from pathlib import Path

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attnbench.backbones.backbone import Backbone, Preprocessing
from attnbench.submission import load_submission
from benchmarks.studies.bfloat16_on_photographs import Comparison, differences
from tests.submissions.adapted import load_program

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)
EPOCHS, BATCH_SIZE, LEARNING_RATE = 6, 128, 0.1
ADAPT, TEST, PER_CLASS, NOISE = 3000, 4000, 64, 0.6

FLOAT32, PERTURBED = "float32", "float32, images changed by 1e-5"
BFLOAT16 = "frozen part in bfloat16"


def load_images(data: Path, split: str, count: int | None = None) -> tuple[Tensor, Tensor]:
    """Return normalised images `[n, 3, 32, 32]` and labels `[n]`."""
    rows = datasets.load_dataset(str(data / "cifar10-jpeg"), split=split).with_format("numpy")
    rows = rows if count is None else rows.select(range(count))
    pixels = np.stack([np.asarray(picture) for picture in rows["img"]]).transpose(0, 3, 1, 2)
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    images = (torch.from_numpy(pixels).float() / 255 - mean) / std
    return images, torch.as_tensor(np.asarray(rows["label"][:]))


def untrained_vgg() -> dict[str, nn.Module]:
    """Return the stages of a VGG: eight convolutions with batch norm, in five blocks."""
    stages: dict[str, nn.Module] = {}
    channels = 3
    for number, (width, depth) in enumerate([(64, 1), (128, 1), (256, 2), (512, 2), (512, 2)], 1):
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
            layers += [nn.ReLU()]
            channels = width
        pool = [nn.MaxPool2d(2)] if number < 5 else []
        stages[f"block{number}"] = nn.Sequential(*layers, *pool)
    stages["head"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))
    return stages


def train(stages: dict[str, nn.Module], images: Tensor, labels: Tensor) -> None:
    """Train with SGD and a one-cycle learning rate, on randomly mirrored and shifted batches."""
    network = nn.Sequential(*stages.values()).to(memory_format=torch.channels_last).train()
    steps = EPOCHS * (len(images) // BATCH_SIZE)
    optimiser = torch.optim.SGD(
        network.parameters(), LEARNING_RATE, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, steps)
    for epoch in range(EPOCHS):
        order = torch.randperm(len(images))[: len(images) // BATCH_SIZE * BATCH_SIZE]
        total = 0.0
        for rows in order.view(-1, BATCH_SIZE):
            batch = images[rows].flip(3) if torch.rand(()) < 0.5 else images[rows]
            batch = batch.roll(tuple(torch.randint(-3, 4, (2,)).tolist()), (2, 3))
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(batch.contiguous(memory_format=torch.channels_last))
            loss = nn.functional.cross_entropy(logits.float(), labels[rows])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            total += loss.item() * BATCH_SIZE / len(order)
        print(f"epoch {epoch + 1}: loss {total:.3f}", file=sys.stderr)


def score(
    name: str, variant: str, backbone: Backbone, images: tuple[Tensor, Tensor], test: Tensor
) -> NDArray[np.float32]:
    """Adapt with a submission and return its scores of the test images.

    Args:
        name: of the submission.
        variant: one of the variants above.
        backbone: with its target set.
        images: positives and negatives.
        test: test images.
    """
    if variant == PERTURBED:
        generator = torch.Generator().manual_seed(1)
        pos, neg = (
            rows * (1 + 1e-5 * torch.randn(rows.shape, generator=generator)) for rows in images
        )
        images = pos, neg
    torch.manual_seed(0)
    hyperparameters = load_submission(name).hyperparameters_for(backbone.name)
    hyperparameters["precision"] = "bfloat16" if variant == BFLOAT16 else "float32"
    detector = load_program(name).adapt(copy.deepcopy(backbone), *images, **hyperparameters)
    detector.eval()
    with torch.no_grad():
        return np.concatenate([detector(batch).numpy() for batch in test.split(200)])


def main(data: Path, names: list[str]) -> None:
    """Train the network and print two rows for each submission."""
    torch.manual_seed(0)
    stages = untrained_vgg()
    train(stages, *load_images(data, "train"))
    backbone = Backbone(
        stages,
        name="trained/vgg",
        labels=tuple("0123456789"),
        preprocessing=Preprocessing(size=32, resize=32, mean=MEAN, std=STD),
    )
    images, labels = load_images(data, "train", ADAPT)
    test, test_labels = load_images(data, "test", TEST)
    with torch.no_grad():
        predicted = torch.cat([backbone(batch).argmax(dim=1) for batch in test.split(200)])
    accuracy = (predicted == test_labels).float().mean()
    print(f"accuracy on {TEST:,} test images: {accuracy:.1%}")
    generator = torch.Generator().manual_seed(0)
    images, test = (
        rows + NOISE * torch.randn(rows.shape, generator=generator) for rows in (images, test)
    )
    print("| submission | | correlation, least and median | d′, less float32's | "
          "d_a, less float32's |")  # fmt: skip
    print("|---|---|---|---|---|")
    for name in names:
        comparisons: dict[str, list[Comparison]] = defaultdict(list)
        for target in range(10):
            backbone.target = target
            sides = images[labels == target][:PER_CLASS], images[labels != target][:PER_CLASS]
            float32 = score(name, FLOAT32, backbone, sides, test)
            present = (test_labels == target).numpy()
            for variant in (PERTURBED, BFLOAT16):
                tested = score(name, variant, backbone, sides, test)
                comparisons[variant].append(Comparison.of(tested, float32, present))
        for variant, targets in comparisons.items():
            correlations = [target.correlation for target in targets]
            cells = [f"{min(correlations):.5f}, {np.median(correlations):.5f}"]
            cells += differences(targets)
            print(f"| `{name}` | {variant} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or ["attention", "linear_probe", "last_layer"])
