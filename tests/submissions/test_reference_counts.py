"""Parameters of shipped submissions on VGG-16, ResNet-50 and ViT-B/16, against known counts."""

from __future__ import annotations

import pytest

from tests.submissions.adapted import adapted, images, random_backbone

VGG, RESNET, VIT = "torchvision/vgg16", "torchvision/resnet50", "torchvision/vit_b_16"

KNOWN = [
    ("attention", VGG, 512),
    ("attention", VIT, 768),
    ("last_layer", VGG, 4_097_000),
    ("last_layer", RESNET, 2_049_000),
    ("last_layer", VIT, 769_000),
    ("bias_only", VGG, 1),
]


@pytest.mark.parametrize(("name", "network", "count"), KNOWN)
def test_measured_parameters_are_the_known_ones(name: str, network: str, count: int) -> None:
    backbone = random_backbone(network)
    settings = {} if name in ("bias_only",) else {"epochs": 1}
    size = adapted(name, backbone, *images(backbone, 2), **settings).size
    assert size.parameters_added + size.parameters_changed == count
    assert size.parameters_opaque == 0
