"""peft's adapters, prompts, windows, glimpses, spatial attention: against closed forms and slices."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torchvision.models import vgg16

from attnbench import Backbone, NotApplicable
from attnbench.adaptation import Gains
from attnbench.backbones import load
from attnbench.backbones.backbone import tensors_of
from tests.submissions.adapted import adapted, images, module_of, random_backbone, small_vit


@pytest.fixture
def vgg() -> Backbone:
    backbone = load("shipped/figures-vgg")
    backbone.target = 3
    return backbone


# peft


def randomise(network: nn.Module) -> None:
    """Give every adapter values that are not its initial ones."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)


def network_with(kind: str, vgg: Backbone) -> tuple[Backbone, torch.Tensor]:
    backbone = vgg if kind == "convolutions" else copy.deepcopy(small_vit())
    return backbone, torch.cat(images(backbone, 2))


@pytest.mark.parametrize("kind", ["convolutions", "attention"])
def test_lora_merged_is_lora_beside_the_weights_which_stay(kind: str, vgg: Backbone) -> None:
    pytest.importorskip("peft")
    backbone, seen = network_with(kind, vgg)
    own = {name: tensor.clone() for name, tensor in tensors_of(backbone).items()}
    untouched = backbone(seen)
    layers = module_of("lora").insert(backbone, rank=4, alpha=4)
    torch.testing.assert_close(backbone(seen), untouched)  # B is zero
    randomise(backbone)
    unmerged = backbone(seen).detach()
    kept = [tensor for name, tensor in tensors_of(backbone).items() if "lora_" not in name]
    assert all(any(each.equal(tensor) for tensor in kept) for each in own.values())
    for layer in layers:
        layer.merge()
    assert not torch.allclose(unmerged, untouched, atol=1e-2)
    torch.testing.assert_close(backbone(seen), unmerged, rtol=1e-3, atol=1e-3)


def test_what_lora_delivers_is_what_pefts_layers_compute(vgg: Backbone) -> None:
    pytest.importorskip("peft")
    module = module_of("lora")
    layers = module.insert(vgg, rank=2, alpha=6)
    randomise(vgg)
    for layer in layers:
        maps = torch.randn(2, layer.get_base_layer().in_channels, 8, 8)
        torch.testing.assert_close(module.LowRank(layer)(maps), layer(maps), rtol=0, atol=0)


def test_ia3_before_a_block_is_attention_behind_the_one_before(vgg: Backbone) -> None:
    pytest.importorskip("peft")
    pos, neg = images(vgg, 6)
    ia3 = adapted("ia3", vgg, pos, neg, layers=r"block4\.0", epochs=1)
    attention = adapted("attention", vgg, pos, neg, after="block3", steps=2, enough=0.0)
    gains, learned = (
        next(each for each in found.detector.parameters() if each.requires_grad)
        for found in (ia3, attention)
    )
    assert (learned - 1).abs().max() > 0.05
    gains.data.copy_(learned.detach().view_as(gains))
    torch.testing.assert_close(ia3.detector(pos), attention.detector(pos), rtol=1e-3, atol=1e-3)
    assert ia3.size.parameters_added == attention.size.parameters_added == 96


def test_ia3_on_vggs_block5_conv1_is_attention_after_block4() -> None:
    pytest.importorskip("peft")
    block5 = vgg16(init_weights=False).features[24:].requires_grad_(False)
    attention = Gains(torch.empty(512).uniform_(0, 2))
    gained = copy.deepcopy(block5)
    module_of("ia3").insert(gained, "24")
    (gains,) = [each for each in gained.parameters() if each.requires_grad]
    gains.data = attention.gains.data.view(1, 512, 1, 1).clone()
    maps = torch.rand(2, 512, 14, 14)
    torch.testing.assert_close(gained(maps), block5(attention(maps)))


# prompts


def test_prompts_are_seen_by_the_images_tokens_and_go(vgg: Backbone) -> None:
    module = module_of("vpt")
    block = small_vit().stage("block2")
    prompted = module.Prompted(block, 5, 16, torch.device("cpu"))
    tokens = torch.randn(2, 17, 16)
    prompts = prompted.prompts.expand(2, -1, -1)
    # the paper's place for them: behind the class token
    inside = block(torch.cat([tokens[:, :1], prompts, tokens[:, 1:]], dim=1))
    expected = torch.cat([inside[:, :1], inside[:, 6:]], dim=1)
    torch.testing.assert_close(prompted(tokens), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(NotApplicable, match="transformer"):
        adapted("vpt", vgg, *images(vgg, 2))
    found = adapted("vpt", small_vit(), *images(small_vit(), 2), epochs=1)
    assert found.size.parameters_added == 5 * 3 * 16


# windows


def window(a: list[list[float]]) -> nn.Module:
    """A spatial transformer that shows every image through A."""
    transformer = module_of("stn").SpatialTransformer()
    transformer.affine.bias.data = torch.tensor(a, dtype=torch.float32).flatten()
    return transformer


def test_a_window_is_the_whole_image_at_first(vgg: Backbone) -> None:
    seen = torch.cat(images(vgg, 2))
    torch.testing.assert_close(module_of("stn").SpatialTransformer()(seen), seen, rtol=0, atol=1e-4)


def test_windows_that_fall_on_pixels_are_slices() -> None:
    seen = torch.randn(2, 3, 32, 32)
    flipped = window([[-1, 0, 0], [0, 1, 0]])(seen)
    torch.testing.assert_close(flipped, seen.flip(3), rtol=0, atol=1e-4)
    # 4 of 32 pixels to the right, which is 2 * 4 / 32 of what runs from -1 to 1
    moved = window([[1, 0, 0.25], [0, 1, 0]])(seen)
    torch.testing.assert_close(moved[..., :-4], seen[..., 4:], rtol=0, atol=1e-4)
    assert moved[..., -4:].abs().max() < 1e-4
    zoomed = window([[0.5, 0, 0], [0, 0.5, 0]])(seen)
    centre = nn.functional.interpolate(seen[..., 8:24, 8:24], (32, 32), mode="bilinear")
    torch.testing.assert_close(zoomed[..., 1:-1, 1:-1], centre[..., 1:-1, 1:-1], rtol=0, atol=1e-4)


# spatial attention


def test_gains_are_the_class_activation_map(vgg: Backbone) -> None:
    kind = module_of("spatial_attention").SecondPass
    second = kind(vgg.stage("block4"), vgg.after("block4"), (1, 1))
    features = torch.rand(2, 96, 6, 6)
    head = vgg.stage("head")
    maps = vgg.stage("block4")[:-1](features)
    activations = torch.einsum("kc,nchw->nkhw", head.weight, maps) + head.bias[:, None, None]
    evidence = activations.clamp(min=0).mean(dim=1, keepdim=True)
    expected = evidence / evidence.mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(second.gains(features), expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        second(features), vgg.stage("block4")(features * expected), rtol=1e-3, atol=1e-3
    )
    # Where all places are alike, how many there are makes no difference.
    whole = kind(vgg.stage("block4"), vgg.after("block4"), (3, 3))
    torch.testing.assert_close(whole.gains(features), expected, rtol=1e-3, atol=1e-4)


def test_the_published_map_is_constant() -> None:
    """`attention_control` of the published code, step by step, against what is shipped."""
    evidence = torch.randn(15, 15, 10) * 3
    answers = evidence.softmax(dim=-1).permute(2, 1, 0).mean(dim=0)
    published = answers / answers.sum(dim=0)
    maps = torch.randn(1, 32, 15, 15)
    shipped = module_of("spatial_attention_as_published").ConstantAttention()
    torch.testing.assert_close(shipped(maps), maps * published)


# glimpses


@pytest.mark.parametrize(
    ("network", "patch", "kept"), [("figures-vgg", 6, 19), ("digits-cnn", 4, 14)]
)
@pytest.mark.parametrize("name", ["glimpse_saccade", "glimpse_random"])
def test_at_most_three_tenths_of_the_pixels_are_seen(
    name: str, network: str, patch: int, kept: int
) -> None:
    backbone = random_backbone(f"shipped/{network}")
    glimpses = adapted(name, backbone, *images(backbone, 2), steps=1).detector.frozen[0]
    seen = torch.cat(images(backbone, 4))
    shown = glimpses(seen)
    assert ((shown == seen) | (shown == 0)).all()
    patches = nn.functional.max_pool2d((shown != 0).float(), patch)
    torch.testing.assert_close(patches, nn.functional.avg_pool2d((shown != 0).float(), patch))
    assert (patches[:, 0].sum(dim=(1, 2)) == kept).all() and kept <= 0.3 * patches[0, 0].numel()
    # the same in other company, and not the same for all
    assert torch.cat([glimpses(image[None]) for image in seen.flip(0)]).flip(0).equal(shown)
    assert len({tuple(row.flatten().tolist()) for row in patches[:, 0]}) > 1


def test_saccades_go_where_the_network_is_most_active() -> None:
    # A network whose activity is the image itself, so that a patch's attention is its mean square.
    saccades = module_of("glimpse_saccade").Saccades(nn.Identity(), 4, 5)
    image = torch.ones(1, 3, 16, 16) * 0.1
    chosen = [(0, 0), (1, 3), (2, 1), (3, 2), (3, 3)]
    for row, column in chosen:
        image[..., 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 2
    shown = saccades(image)[0, 0, ::4, ::4]
    assert {tuple(place) for place in shown.nonzero().tolist()} == set(chosen)
