"""Every shipped submission keeps the contract, on CNNs with and without labels and on a ViT."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from attnbench import NotApplicable
from attnbench.backbones.backbone import Backbone, tensors_of
from attnbench.resources import submissions_folder
from attnbench.submission import load_submission
from tests.submissions.adapted import adapt_submission, noise_images, random_backbone, small_vit

NAMES = sorted(path.parent.name for path in submissions_folder().glob("*/submission.toml"))
NETWORKS: dict[str, Callable[[], Backbone]] = {
    "classifier": lambda: random_backbone("shipped/figures-vgg"),
    "residual classifier": lambda: random_backbone("shipped/figures-resnet"),
    "encoder": lambda: random_backbone("shipped/figures-simclr"),
    "encoder without a pool": lambda: random_backbone("shipped/cifar-vae"),
    "transformer": small_vit,
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", NAMES)
def test_a_submission_keeps_the_contract(name: str, network: str) -> None:
    backbone = NETWORKS[network]()
    has_epochs = "epochs" in load_submission(name).manifest.hyperparameters
    pos, neg = noise_images(backbone, 8)
    try:
        adapted = adapt_submission(
            name, backbone, pos, neg, **({"epochs": 2} if has_epochs else {})
        )
    except NotApplicable as refusal:
        assert str(refusal) and "\n" not in str(refusal)
        return
    # What does not count as changed is frozen, including batch-norm statistics.
    before, after = tensors_of(backbone), tensors_of(adapted.backbone)
    changed = sum(
        tensor.numel()
        for key, tensor in before.items()
        if key in after and not tensor.equal(after[key])
    )
    assert changed <= adapted.size.parameters_changed
    images = torch.cat(noise_images(backbone, 3, seed=1))
    with torch.no_grad():
        scores = adapted.delivered(images)
        torch.testing.assert_close(scores, adapted.detector(images))
        one_by_one = torch.cat([adapted.delivered(image[None]) for image in images])
    assert scores.shape == (6,) and scores.isfinite().all()
    torch.testing.assert_close(scores, one_by_one, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_submission_is_short_and_names_its_source(name: str) -> None:
    folder = submissions_folder() / name
    program = (folder / "submission.py").read_text(encoding="utf-8")
    assert len(program.splitlines()) <= 150
    assert "Results: see leaderboard.md." in (folder / "README.md").read_text(encoding="utf-8")
    manifest = load_submission(folder).manifest
    controls = ("none", "bias_only")  # not from any paper
    assert (manifest.paper or name in controls) and manifest.description and manifest.licence
