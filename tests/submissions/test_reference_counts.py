"""Parameter counts of shipped submissions on VGG-16, ResNet-50 and ViT-B/16."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from attnbench.judge.parameter_count import ParameterCounter
from attnbench.sandbox.packing import ArtefactPacker
from attnbench.submission import load_submission
from tests.submissions.adapted import (
    adapt_submission,
    noise_images,
    random_backbone,
    random_vit_b_16,
)

VGG, RESNET, VIT = "torchvision/vgg16", "torchvision/resnet50", "torchvision/vit_b_16"

# From the literature or from the sizes of layers, with one for a threshold where a method learns one.
KNOWN = [
    ("attention", VGG, 513),
    ("attention", RESNET, 1_025),
    ("attention", VIT, 769),
    ("bias_only", VGG, 1),
    ("last_layer", VGG, 4_097_000),
    ("last_layer", RESNET, 2_049_000),
    ("last_layer", VIT, 769_000),
    ("feature_gain", VGG, 4_225),
    ("feature_gain", RESNET, 26_561),
    ("film", VGG, 8_449),
    ("film", RESNET, 53_121),
    ("norm_tuning", RESNET, 53_121),
    ("norm_tuning", VIT, 38_401),
    ("bitfit", VGG, 13_417),
    ("bitfit", RESNET, 27_561),
    ("bitfit", VIT, 103_913),
    ("lora", VGG, 150_637),
    ("lora", RESNET, 317_773),
    ("lora", VIT, 147_457),
    ("bn_stats", RESNET, 53_121),
    ("meta_mapping", VGG, 512),
    ("squeeze_excite", VGG, 32_769),
    ("vpt", VIT, 46_081),
    ("linear_probe", VGG, 4_097),
    ("linear_probe", RESNET, 2_049),
    ("linear_probe", VIT, 769),
    ("ridge_probe", VGG, 4_097),
    ("lda", RESNET, 2_049),
    ("prototype", VIT, 1_537),
    ("feature_similarity", VGG, 513),
    ("ia3", VGG, 3_716),
    ("spiking", RESNET, 135_232),
    ("stn", VGG, 6_305),
    ("adapter", VGG, 154_233),
    ("side_tuning", RESNET, 156_706),
    ("ram", VGG, 18_730),
    ("edram", VGG, 52_698),
    ("stawm", VGG, 54_813),
    ("full_finetune", RESNET, 25_557_033),
    pytest.param("full_finetune", VGG, 138_357_545, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "network", "count"), KNOWN)
def test_measured_parameters_are_the_known_ones(name: str, network: str, count: int) -> None:
    if "peft" in load_submission(name).manifest.libraries:
        pytest.importorskip("peft")
    backbone = random_vit_b_16() if network == VIT else random_backbone(network)
    hyperparameters = load_submission(name).manifest.hyperparameters
    # The counts do not depend on training. The `steps` of `spiking` are those of time.
    limits = {
        limit: value
        for limit, value in (("epochs", 1), ("steps", 1), ("choose_rate", False))
        if limit in hyperparameters and name != "spiking"
    }
    # Nor do they depend on the size of images.
    pos, neg = noise_images(backbone, 2, size=64)
    size = adapt_submission(name, backbone, pos, neg, **limits).size
    assert size.parameters_added + size.parameters_changed == count


def test_feature_extractor_of_resnet50_adds_its_readout_only() -> None:
    """The code that torchvision generates is reported apart, as one number for every 4 bytes."""
    backbone = random_backbone(RESNET)
    packer = ArtefactPacker(backbone)
    name = get_graph_node_names(backbone)[1][-2]
    extractor = create_feature_extractor(backbone, {name: "features"})
    with torch.no_grad():
        (features,) = extractor(torch.zeros(1, 3, 64, 64)).values()
    detector = nn.Sequential(extractor, nn.Linear(features.shape[1], 1))
    size = ParameterCounter(backbone).measure(packer.pack(detector), {})
    assert (size.parameters_added, size.parameters_changed) == (2_049, 0)
    assert size.other_numbers > 10_000
