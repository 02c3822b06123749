"""Does bfloat16 change what a method finds in a trained network that is large enough to use it?

    python -m benchmarks.studies.bfloat16_in_a_trained_vgg ../shared/data [SUBMISSION…]

No weights of such a network are at hand, so one is trained first: a VGG with 9.2 million parameters, on
CIFAR-10 (six epochs, a quarter of an hour on two cores). Each submission then adapts to each of the ten
classes, 64 + 64 training images with noise, and its detectors see 4,000 test images with noise: with
everything in float32, with frozen parts in bfloat16, and with looks of Gauss-Newton in it too. Beside
these stands float32 with images that differ by one part in 100,000: what any rounding does.
"""

from __future__ import annotations

import copy
import importlib
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest import mock

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attnbench.backbones.backbone import Backbone, Preprocessing
from attnbench.submission import load_submission
from benchmarks.studies.quick_against_plain import Beside, bfloat16, differences
from tests.submissions.adapted import module_of

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)
EPOCHS, IMAGES_A_STEP, RATE = 6, 128, 0.1
ADAPT, TEST, PER_SIDE, NOISE = 3000, 4000, 64, 0.6

FLOAT32, PERTURBED = "float32", "float32, images changed by 1e-5"
FROZEN, LOOKS = "frozen part in bfloat16", "frozen part and looks in bfloat16"


def pictures(data: Path, split: str, count: int | None = None) -> tuple[Tensor, Tensor]:
    """Normalised images `[n, 3, 32, 32]`, and labels."""
    rows = datasets.load_dataset(str(data / "cifar10-jpeg"), split=split).with_format("numpy")
    rows = rows if count is None else rows.select(range(count))
    pixels = np.stack([np.asarray(each) for each in rows["img"]]).transpose(0, 3, 1, 2)
    mean, std = (torch.tensor(each)[:, None, None] for each in (MEAN, STD))
    images = (torch.from_numpy(pixels).float() / 255 - mean) / std
    return images, torch.as_tensor(np.asarray(rows["label"][:]))


def untrained_vgg() -> dict[str, nn.Module]:
    """Eight convolutions with batch norm, in five blocks."""
    stages: dict[str, nn.Module] = {}
    before = 3
    for number, (maps, count) in enumerate([(64, 1), (128, 1), (256, 2), (512, 2), (512, 2)], 1):
        layers: list[nn.Module] = []
        for _ in range(count):
            layers += [nn.Conv2d(before, maps, 3, padding=1, bias=False), nn.BatchNorm2d(maps)]
            layers += [nn.ReLU()]
            before = maps
        pool = [nn.MaxPool2d(2)] if number < 5 else []
        stages[f"block{number}"] = nn.Sequential(*layers, *pool)
    stages["head"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))
    return stages


def train(stages: dict[str, nn.Module], images: Tensor, labels: Tensor) -> None:
    """SGD with one cycle of rates, on images mirrored and shifted by chance."""
    network = nn.Sequential(*stages.values()).to(memory_format=torch.channels_last).train()
    steps = EPOCHS * (len(images) // IMAGES_A_STEP)
    optimiser = torch.optim.SGD(
        network.parameters(), RATE, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, steps)
    for epoch in range(EPOCHS):
        order = torch.randperm(len(images))[: len(images) // IMAGES_A_STEP * IMAGES_A_STEP]
        total = 0.0
        for rows in order.view(-1, IMAGES_A_STEP):
            some = images[rows].flip(3) if torch.rand(()) < 0.5 else images[rows]
            some = some.roll(tuple(torch.randint(-3, 4, (2,)).tolist()), (2, 3))
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(some.contiguous(memory_format=torch.channels_last))
            loss = nn.functional.cross_entropy(logits.float(), labels[rows])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            total += loss.item() * IMAGES_A_STEP / len(order)
        print(f"epoch {epoch + 1}: loss {total:.3f}", file=sys.stderr)


@contextmanager
def way(name: str) -> Iterator[None]:
    """How precisely adaptation computes."""
    # by its path: in the package that name is the function
    gauss_newton = importlib.import_module("attnbench.adaptation.gauss_newton")
    no_looks = mock.patch.object(gauss_newton, "pays_in_bfloat16", return_value=False)
    with bfloat16(name in (FROZEN, LOOKS)), no_looks if name == FROZEN else nullcontext():
        yield


def scores(
    name: str, how: str, backbone: Backbone, sides: tuple[Tensor, Tensor], test: Tensor
) -> NDArray[np.float32]:
    """What a submission's detector says of the test images."""
    if how == PERTURBED:
        draw = torch.Generator().manual_seed(1)
        pos, neg = (each * (1 + 1e-5 * torch.randn(each.shape, generator=draw)) for each in sides)
        sides = pos, neg
    torch.manual_seed(0)
    settings = load_submission(name).hyperparameters_for(backbone.name)
    with way(how):
        detector = module_of(name).adapt(copy.deepcopy(backbone), *sides, **settings).eval()
    with torch.no_grad():
        return np.concatenate([detector(some).numpy() for some in test.split(200)])


def main(data: Path, names: list[str]) -> None:
    torch.manual_seed(0)
    stages = untrained_vgg()
    train(stages, *pictures(data, "train"))
    backbone = Backbone(
        stages,
        name="trained/vgg",
        labels=tuple("0123456789"),
        preprocessing=Preprocessing(size=32, resize=32, mean=MEAN, std=STD),
    )
    (images, labels), (test, truth) = pictures(data, "train", ADAPT), pictures(data, "test", TEST)
    with torch.no_grad():
        found = torch.cat([backbone(some).argmax(dim=1) for some in test.split(200)])
    print(f"{(found == truth).float().mean():.1%} of {TEST:,} test images are named rightly")
    draw = torch.Generator().manual_seed(0)
    images, test = (
        each + NOISE * torch.randn(each.shape, generator=draw) for each in (images, test)
    )
    print("| submission | | least correlation, median | d′, less float32's | d_a, less float32's |")
    print("|---|---|---|---|---|")
    for name in names:
        rows: dict[str, list[Beside]] = defaultdict(list)
        for target in range(10):
            backbone.target = target
            sides = images[labels == target][:PER_SIDE], images[labels != target][:PER_SIDE]
            plain = scores(name, FLOAT32, backbone, sides, test)
            is_target = (truth == target).numpy()
            for how in (PERTURBED, FROZEN, LOOKS):
                quick = scores(name, how, backbone, sides, test)
                rows[how].append(Beside.of(quick, plain, is_target))
        for how, targets in rows.items():
            correlations = [each.correlation for each in targets]
            cells = [f"{min(correlations):.5f}, {np.median(correlations):.5f}"]
            cells += differences(targets)
            print(f"| `{name}` | {how} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or ["attention", "film", "linear_probe", "last_layer"])
