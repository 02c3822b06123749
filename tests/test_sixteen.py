"""The sixteen categories of Geirhos et al.: as outputs of networks, and as classes of pictures."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from attnbench.backbones import load
from attnbench.backbones.backbone import Backbone, Preprocessing
from attnbench.backbones.imagenet import WNIDS
from attnbench.backbones.sixteen import (
    CATEGORIES,
    CategoryLogits,
    with_sixteen_outputs,
    wnids_of_category,
)
from attnbench.errors import AttnbenchError
from attnbench.stimuli.opening import open_dataset
from attnbench.tasks import HubSource
from attnbench.vocabulary import SIXTEEN_CATEGORIES

DATA = Path(os.environ.get("ATTNBENCH_DATA", Path(__file__).parents[2] / "shared" / "data"))
TEST = Preprocessing(size=8, resize=8, mean=(0.5,) * 3, std=(0.5,) * 3)


def test_no_class_belongs_to_two_categories() -> None:
    assert CATEGORIES == SIXTEEN_CATEGORIES
    counts = Counter(wnid for category in CATEGORIES for wnid in wnids_of_category(category))
    assert len(counts) == 207 and set(counts.values()) == {1}


@pytest.mark.skipif(
    not (DATA / "sixteen-categories.json").is_file(), reason=f"no categories in {DATA}"
)
def test_the_categories_are_the_published_ones() -> None:
    published = json.loads((DATA / "sixteen-categories.json").read_text())
    assert {name: set(wnids) for name, wnids in published.items()} == {
        category: set(wnids_of_category(category)) for category in CATEGORIES
    }


def test_a_category_has_the_mean_probability_of_its_classes() -> None:
    torch.manual_seed(0)
    logits = 3 * torch.randn(5, 1000)
    probabilities = logits.softmax(1)
    means = [
        probabilities[:, [WNIDS.index(w) for w in wnids_of_category(category)]].mean(1)
        for category in CATEGORIES
    ]
    expected = torch.stack(means, dim=1)
    found = CategoryLogits(WNIDS)(logits).softmax(1)
    torch.testing.assert_close(found, expected / expected.sum(1, keepdim=True))


def test_gradients_pass_through_the_categories() -> None:
    logits = torch.randn(2, 1000, requires_grad=True)
    CategoryLogits(WNIDS)(logits)[:, CATEGORIES.index("bear")].sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all()
    members = {WNIDS.index(wnid) for wnid in wnids_of_category("bear")}
    assert set(logits.grad[0].nonzero().flatten().tolist()) == members


def test_a_network_with_sixteen_outputs_keeps_its_stages() -> None:
    backbone = load("sixteen/squeezenet1_1", untrained=True)
    original = load("torchvision/squeezenet1_1", untrained=True)
    assert backbone.name == "sixteen/squeezenet1_1" and backbone.labels == CATEGORIES
    assert backbone.stages == original.stages
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(backbone(images), CategoryLogits(WNIDS)(original(images)))


def test_a_network_without_the_classes_of_imagenet_has_no_categories() -> None:
    stages = {"head": nn.Flatten()}
    backbone = Backbone(stages, name="own/net", labels=("cat", "dog"), preprocessing=TEST)
    with pytest.raises(AttnbenchError, match="own/net has no outputs for the 1,000 classes"):
        with_sixteen_outputs(backbone)


def _write(folder: Path, wnids: list[str], names: list[str]) -> None:
    picture = b"not decoded here"
    table = pa.table(
        {
            "image": [{"bytes": picture, "path": name} for name in names],
            "label": wnids,
        }
    )
    folder.mkdir()
    pq.write_table(table, folder / "train-00000-of-00001.parquet")


def test_classes_are_merged_and_pictures_of_others_left_out(tmp_path: Path) -> None:
    bear, cat = wnids_of_category("bear")[:2], wnids_of_category("cat")[0]
    wnids = [cat, bear[1], "n01440764", bear[0], cat]
    _write(tmp_path / "photos", wnids, [f"{number}.png" for number in range(5)])
    source = HubSource(kind="hub", folder="photos", split="train", categories="sixteen")
    dataset = open_dataset(source, tmp_path)
    assert dataset.classes == ("bear", "cat")
    np.testing.assert_array_equal(dataset.labels, [0, 0, 1, 1])
    assert sorted(dataset.numbers.tolist()) == [0, 1, 3, 4]
    assert dataset.image_name(2) == "photos-train/cat/0"
    _write(tmp_path / "fish", ["n01440764"], ["1.png"])
    with pytest.raises(AttnbenchError, match="no class of fish-train belongs to airplane, bear"):
        open_dataset(source.model_copy(update={"folder": "fish"}), tmp_path)


def test_pictures_may_be_named_by_their_files(tmp_path: Path) -> None:
    _write(tmp_path / "edge", ["cat", "bear", "cat"], ["cat2.png", "a/bear1.png", "cat1.png"])
    source = HubSource(kind="hub", folder="edge", split="train", file_names=True)
    dataset = open_dataset(source, tmp_path)
    names = [dataset.image_name(row) for row in range(3)]
    assert names == [
        f"edge-train/{name}" for name in ("bear/bear1.png", "cat/cat2.png", "cat/cat1.png")
    ]
    for folder, twice in (("same", ["1.png", "1.png"]), ("unnamed", ["1.png", ""])):
        _write(tmp_path / folder, ["cat", "cat"], twice)
        with pytest.raises(AttnbenchError, match="a file name of its own"):
            open_dataset(source.model_copy(update={"folder": folder}), tmp_path)
