"""What holds for every shipped submission: on a network with the target, on two without, on a ViT."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from attnbench import NotApplicable
from attnbench.backbones.backbone import Backbone, tensors_of
from attnbench.resources import submissions_folder
from attnbench.submission import load_submission
from tests.submissions.adapted import adapted, images, random_backbone, small_vit

NAMES = sorted(path.parent.name for path in submissions_folder().glob("*/submission.toml"))
NETWORKS: dict[str, Callable[[], Backbone]] = {
    "classifier": lambda: random_backbone("shipped/figures-vgg"),
    "encoder": lambda: random_backbone("shipped/figures-simclr"),
    "encoder without a pool": lambda: random_backbone("shipped/cifar-vae"),
    "transformer": small_vit,
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", NAMES)
def test_a_submission_keeps_the_contract(name: str, network: str) -> None:
    backbone = NETWORKS[network]()
    quick = {"epochs": 2} if "epochs" in load_submission(name).manifest.hyperparameters else {}
    pos, neg = images(backbone, 8)
    try:
        found = adapted(name, backbone, pos, neg, **quick)
    except NotApplicable as refusal:
        assert str(refusal) and "\n" not in str(refusal)
        return
    # Frozen is what is not counted, batch-norm's statistics included.
    before, after = tensors_of(backbone), tensors_of(found.backbone)
    drifted = sum(t.numel() for n, t in before.items() if n in after and not t.equal(after[n]))
    assert drifted <= found.size.parameters_changed
    assert found.size.parameters_opaque == 0
    seen = torch.cat(images(backbone, 3, seed=1))
    with torch.no_grad():
        scores = found.delivered(seen)
        torch.testing.assert_close(scores, found.detector(seen))
        alone = torch.cat([found.delivered(image[None]) for image in seen])
    assert scores.shape == (6,) and scores.isfinite().all()
    torch.testing.assert_close(scores, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_submission_is_short_and_says_where_it_comes_from(name: str) -> None:
    folder = submissions_folder() / name
    program = (folder / "submission.py").read_text(encoding="utf-8")
    assert len(program.splitlines()) <= 150
    assert "Figures here" in (folder / "README.md").read_text(encoding="utf-8")
    manifest = load_submission(folder).manifest
    controls = ("none", "bias_only")  # from no paper
    assert (manifest.paper or name in controls) and manifest.description and manifest.licence
