"""peft, prompts, spatial transformers, attention and saccades: against closed forms and slices."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from conftest import rows_of
from torch import Tensor, nn
from torchvision.models import vgg16

from attnbench import Backbone, NotApplicable
from attnbench.adaptation import Gains, fit_adam, log_odds
from attnbench.backbones import load
from attnbench.backbones.backbone import tensors_of
from attnbench.statistics.detection import detect
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.tasks import load_task
from tests.submissions.adapted import (
    adapt_submission,
    load_program,
    noise_images,
    random_backbone,
    small_vit,
)


@pytest.fixture
def vgg() -> Backbone:
    backbone = load("shipped/figures-vgg")
    backbone.target = 3
    return backbone


# peft


def randomise(network: nn.Module) -> None:
    """Change every trainable parameter from its initial value."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)


@pytest.mark.parametrize("kind", ["convolutions", "attention"])
def test_lora_equals_merged_lora_and_leaves_the_weights_alone(kind: str, vgg: Backbone) -> None:
    pytest.importorskip("peft")
    backbone = vgg if kind == "convolutions" else copy.deepcopy(small_vit())
    images = torch.cat(noise_images(backbone, 2))
    before = {name: tensor.clone() for name, tensor in tensors_of(backbone).items()}
    original = backbone(images)
    load_program("lora").insert_lora(backbone, rank=4, alpha=4)
    torch.testing.assert_close(backbone(images), original)  # B is zero
    randomise(backbone)
    outputs = backbone(images).detach()
    after = [tensor for name, tensor in tensors_of(backbone).items() if "lora_" not in name]
    assert all(any(tensor.equal(kept) for kept in after) for tensor in before.values())
    for module in list(backbone.modules()):
        if hasattr(module, "merge"):
            module.merge()
    assert not torch.allclose(outputs, original, atol=1e-2)
    torch.testing.assert_close(backbone(images), outputs, rtol=1e-3, atol=1e-3)


def test_ia3_in_front_of_a_block_equals_attention_after_the_block_before(vgg: Backbone) -> None:
    pytest.importorskip("peft")
    pos, neg = noise_images(vgg, 6)
    ia3 = adapt_submission("ia3", vgg, pos, neg, layers=r"block4\.0", epochs=1)
    attention = adapt_submission("attention", vgg, pos, neg, after="block3", steps=2, penalty=0.0)
    ia3_gains, attention_gains = (
        next(parameter for parameter in adapted.detector.parameters() if parameter.requires_grad)
        for adapted in (ia3, attention)
    )
    assert (attention_gains - 1).abs().max() > 0.05
    ia3_gains.data.copy_(attention_gains.detach().view_as(ia3_gains))
    ia3.detector.threshold = attention.detector.threshold
    torch.testing.assert_close(ia3.detector(pos), attention.detector(pos), rtol=1e-3, atol=1e-3)
    assert ia3.size.parameters_added == attention.size.parameters_added == 96 + 1


def test_ia3_on_vggs_block5_conv1_equals_attention_after_block4() -> None:
    pytest.importorskip("peft")
    block5 = vgg16(init_weights=False).features[24:].requires_grad_(False)
    attention = Gains(torch.empty(512).uniform_(0, 2))
    with_ia3 = copy.deepcopy(block5)
    load_program("ia3").insert_gains(with_ia3, "24")
    (gains,) = [parameter for parameter in with_ia3.parameters() if parameter.requires_grad]
    gains.data = attention.gains.data.view(1, 512, 1, 1).clone()
    maps = torch.rand(2, 512, 14, 14)
    torch.testing.assert_close(with_ia3(maps), block5(attention(maps)))


def test_ia3_is_not_applicable_if_no_layer_matches(vgg: Backbone) -> None:
    pytest.importorskip("peft")
    with pytest.raises(NotApplicable, match="matches 'block9'"):
        load_program("ia3").insert_gains(vgg, "block9")
    with pytest.raises(NotApplicable, match="convolutions"):
        load_program("ia3").insert_gains(nn.Sequential(nn.Flatten()), "")


# Prompts


def test_the_images_tokens_attend_to_prompts_that_are_then_dropped(vgg: Backbone) -> None:
    block = small_vit().stage("block2")
    prompted = load_program("vpt").PromptedBlock(block, 5, torch.zeros(16))
    tokens = torch.randn(2, 17, 16)
    prompts = prompted.prompts.expand(2, -1, -1)
    # In the paper, prompts follow the class token.
    outputs = block(torch.cat([tokens[:, :1], prompts, tokens[:, 1:]], dim=1))
    expected = torch.cat([outputs[:, :1], outputs[:, 6:]], dim=1)
    torch.testing.assert_close(prompted(tokens), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(NotApplicable, match="transformer"):
        adapt_submission("vpt", vgg, *noise_images(vgg, 2))
    adapted = adapt_submission("vpt", small_vit(), *noise_images(small_vit(), 2), epochs=1)
    assert adapted.size.parameters_added == 5 * 3 * 16 + 1


def test_prompts_learn_on_a_trained_transformer() -> None:
    track = load_task("architectures").tracks["mini"]
    backbone = load("shipped/figures-vit")
    stimuli = TrackStimuli(track, backbone.preprocessing, backbone.labels, None)
    gains_in_d_a = []
    for target in stimuli.targets[:2]:
        episode = stimuli.episode(target, 0)
        backbone.target = episode.label
        pos, neg = torch.from_numpy(episode.pos), torch.from_numpy(episode.neg)
        images = torch.from_numpy(episode.make(rows_of(range(len(episode.present)))))
        initial, trained = (
            adapt_submission("vpt", backbone, pos, neg, **changed).delivered
            for changed in ({"epochs": 0}, {})
        )
        with torch.no_grad():
            unadapted = log_odds(backbone(images), episode.label)
            adapted = trained(images)
            fit_before, fit_after = (
                detect(detector(torch.cat([pos, neg])).numpy(), np.arange(48) < 24).auc
                for detector in (initial, trained)
            )
        # The area under the ROC curve is the same at any threshold: the prompts have learned.
        assert fit_after > fit_before or fit_before == 1
        assert (adapted - unadapted).std() > 0.1
        d_a_before, d_a_after = (
            detect(scores.numpy(), episode.present).d_a for scores in (unadapted, adapted)
        )
        gains_in_d_a.append(d_a_after - d_a_before)
    assert np.mean(gains_in_d_a) > -0.1


# Windows


def transformer_with(affine: list[list[float]]) -> nn.Module:
    """Return a spatial transformer with the same transform for every image."""
    transformer = load_program("stn").SpatialTransformer()
    transformer.affine.bias.data = torch.tensor(affine, dtype=torch.float32).flatten()
    return transformer


def test_the_initial_window_is_the_whole_image(vgg: Backbone) -> None:
    images = torch.cat(noise_images(vgg, 2))
    transformer = load_program("stn").SpatialTransformer()
    torch.testing.assert_close(transformer(images), images, rtol=0, atol=1e-4)


def test_windows_that_fall_on_pixels_are_slices() -> None:
    images = torch.randn(2, 3, 32, 32)
    flipped = transformer_with([[-1, 0, 0], [0, 1, 0]])(images)
    torch.testing.assert_close(flipped, images.flip(3), rtol=0, atol=1e-4)
    # The image runs from -1 to 1, so 4 of 32 pixels are 2 * 4 / 32.
    shifted = transformer_with([[1, 0, 0.25], [0, 1, 0]])(images)
    torch.testing.assert_close(shifted[..., :-4], images[..., 4:], rtol=0, atol=1e-4)
    assert shifted[..., -4:].abs().max() < 1e-4
    zoomed = transformer_with([[0.5, 0, 0], [0, 0.5, 0]])(images)
    expected = nn.functional.interpolate(images[..., 8:24, 8:24], (32, 32), mode="bilinear")
    inner = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(zoomed[inner], expected[inner], rtol=0, atol=1e-4)


# Spatial attention


def test_gains_are_the_class_activation_map(vgg: Backbone) -> None:
    second_pass = load_program("spatial_attention").SecondPass
    attended = second_pass(vgg.stage("block4"), vgg.after("block4"), (1, 1))
    features = torch.rand(2, 96, 6, 6)
    head = vgg.stage("head")
    maps = vgg.stage("block4")[:-1](features)
    activations = torch.einsum("kc,nchw->nkhw", head.weight, maps) + head.bias[:, None, None]
    evidence = activations.clamp(min=0).mean(dim=1, keepdim=True)
    expected = evidence / evidence.mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(attended.gains(features), expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        attended(features), vgg.stage("block4")(features * expected), rtol=1e-3, atol=1e-3
    )
    # The size of uniform maps makes no difference.
    with_larger_maps = second_pass(vgg.stage("block4"), vgg.after("block4"), (3, 3))
    torch.testing.assert_close(with_larger_maps.gains(features), expected, rtol=1e-3, atol=1e-4)


def test_the_published_map_is_constant() -> None:
    """The steps of `attention_control` in the published code equal the shipped constant."""
    evidence = torch.randn(15, 15, 10) * 3
    mean_over_classes = evidence.softmax(dim=-1).permute(2, 1, 0).mean(dim=0)
    published = mean_over_classes / mean_over_classes.sum(dim=0)
    maps = torch.randn(1, 32, 15, 15)
    shipped = load_program("spatial_attention_as_published").ConstantAttention()
    torch.testing.assert_close(shipped(maps), maps * published)


# Saccades


@pytest.mark.parametrize(
    ("network", "patch", "kept"), [("figures-vgg", 6, 19), ("digits-cnn", 4, 14)]
)
@pytest.mark.parametrize("name", ["glimpse_saccade", "glimpse_random"])
def test_at_most_three_tenths_of_the_pixels_are_visible(
    name: str, network: str, patch: int, kept: int
) -> None:
    backbone = random_backbone(f"shipped/{network}")
    detector = adapt_submission(name, backbone, *noise_images(backbone, 2), steps=1).detector
    glimpses = detector.frozen[0]
    images = torch.cat(noise_images(backbone, 4))
    visible = glimpses(images)
    assert ((visible == images) | (visible == 0)).all()
    mask = (visible != 0).float()
    patches = nn.functional.max_pool2d(mask, patch)
    torch.testing.assert_close(patches, nn.functional.avg_pool2d(mask, patch))
    assert (patches[:, 0].sum(dim=(1, 2)) == kept).all() and kept <= 0.3 * patches[0, 0].numel()
    # The patches depend on the image alone, not on its batch, and differ between images.
    one_by_one = torch.cat([glimpses(image[None]) for image in images.flip(0)]).flip(0)
    assert one_by_one.equal(visible)
    assert len({tuple(mask.flatten().tolist()) for mask in patches[:, 0]}) > 1


def test_saccades_go_where_the_network_is_most_active() -> None:
    # The features are the image itself, so the attention to a patch is its mean square.
    saccades = load_program("glimpse_saccade").Saccades(nn.Identity(), 4, 5, None)
    image = torch.ones(1, 3, 16, 16) * 0.1
    active = [(0, 0), (1, 3), (2, 1), (3, 2), (3, 3)]
    for row, column in active:
        image[..., 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 2
    visible = saccades(image)[0, 0, ::4, ::4]
    assert {tuple(patch) for patch in visible.nonzero().tolist()} == set(active)


def test_a_learned_policy_finds_a_dim_patch_beside_brighter_ones() -> None:
    def images(present: bool) -> Tensor:
        """In four of 16 patches there is a bright blue square. A target is a dim red one."""
        made = 0.1 * torch.rand(32, 3, 16, 16)
        for image in made:
            places = [(4 * (k // 4), 4 * (k % 4)) for k in torch.randperm(16)[:5].tolist()]
            for row, column in places[:4]:
                image[2, row : row + 4, column : column + 4] = 2
            if present:
                row, column = places[4]
                image[0, row : row + 4, column : column + 4] = 1
        return made

    torch.manual_seed(0)
    weights = nn.Parameter(torch.zeros(3))
    saccades = load_program("glimpse_saccade").Saccades(nn.Identity(), 4, 1, weights)
    by_activity = load_program("glimpse_saccade").Saccades(nn.Identity(), 4, 1, None)
    test = images(True)
    assert saccades(test).equal(by_activity(test))

    def seen(images: Tensor) -> Tensor:
        return saccades(images)[:, 0].sum(dim=(1, 2))

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.saccades = saccades

        def forward(self, images: Tensor) -> Tensor:
            return seen(images) - 8

    # The dim patch has 16 pixels of 1.
    assert (seen(test) < 8).all()
    fit_adam(Reader(), images(True), images(False), learning_rate=0.3, epochs=30)
    assert (seen(test) > 12).float().mean() > 0.9
