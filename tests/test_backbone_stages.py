"""Stages found by tracing, stages named by the user, and layers inserted behind any module."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from conftest import small_backbone
from torch import Tensor, nn
from torch.nn import functional as F

from attnbench.backbones import Backbone, load
from attnbench.backbones.traced_stages import found_stages, named_stages

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    """Two convolutions with a skip connection around them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.one, self.two = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(features + self.two(F.relu(self.one(features))))


class Encoder(nn.Module):
    """Maps to vectors: what `Wrapped` has inside."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.blocks = nn.Sequential(Block(4), Block(4))

    def forward(self, images: Tensor) -> Tensor:
        features = F.max_pool2d(self.blocks(F.relu(self.norm(self.stem(images)))), 2)
        return features.mean(dim=(2, 3))


class Wrapped(nn.Module):
    """An encoder and a classifier, with a scaling of pixels and an optional argument."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.fc = Encoder(), nn.Linear(4, 3)

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        features = self.encoder(images * 2 - 1)
        return self.fc(features if mask is None else features * mask)


class Transformer(nn.Module):
    """Tokens with a class token and positions."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.token, self.positions = (
            nn.Parameter(torch.ones(1, 1, 8)),
            nn.Parameter(torch.ones(17, 8)),
        )
        self.blocks = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])
        self.norm = nn.LayerNorm(8)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = (
            torch.cat([self.token.expand(images.shape[0], -1, -1), tokens], dim=1) + self.positions
        )
        for block in self.blocks:
            tokens = tokens + block(tokens)
        return self.norm(tokens)[:, 0]


class Named(nn.Module):
    """Its modules have the names of attributes of `Backbone`."""

    def __init__(self) -> None:
        super().__init__()
        self.stage, self.after, self.labels = (nn.Conv2d(3, 3, 3) for _ in range(3))

    def forward(self, images: Tensor) -> Tensor:
        return self.labels(self.after(self.stage(images))).flatten(2).amax(2)


def composed(stages: dict[str, nn.Module]) -> Backbone:
    preprocessing = small_backbone().preprocessing
    return Backbone(stages, name="own/test", labels=None, preprocessing=preprocessing)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (Wrapped, ["encoder_stem", "encoder_blocks_0", "encoder_blocks_1", "pool", "head"]),
        (Transformer, ["patches", "blocks_0", "blocks_1", "pool"]),
        (Named, ["stage_", "after_", "labels_", "pool"]),
        (
            lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(784, 2)),
            ["layer0", "layer2", "head"],
        ),
    ],
)
def test_stages_are_found_and_give_the_output_to_the_bit(
    make: type[nn.Module], names: list[str]
) -> None:
    model = make().eval()
    stages = found_stages(model, IMAGES, inside=True)
    assert list(stages) == names
    backbone = composed(stages)
    with torch.no_grad():
        expected = model(IMAGES)
        assert torch.equal(backbone(IMAGES), expected)
        # Detectors made from it travel as pickles.
        assert torch.equal(pickle.loads(pickle.dumps(backbone))(IMAGES), expected)
    weights = {id(tensor) for tensor in model.parameters()}
    assert weights == {id(tensor) for tensor in backbone.parameters()}


def test_no_stage_that_is_found_returns_maps_with_channels_last() -> None:
    class ChannelsLast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.first, self.second = (
                nn.Conv2d(3, 5, 2, 2),
                nn.Linear(5, 6),
                nn.Linear(6, 7),
            )
            self.last = nn.Conv2d(7, 2, 3)

        def forward(self, images: Tensor) -> Tensor:
            maps = self.second(self.first(self.stem(images).permute(0, 2, 3, 1)))
            return self.last(maps.permute(0, 3, 1, 2)).mean(dim=(2, 3))

    stages = found_stages(ChannelsLast().eval(), IMAGES, inside=True)
    shapes = composed(stages).output_shapes(IMAGES)
    assert [tuple(shapes[name]) for name in stages] == [(5, 8, 8), (7, 8, 8), (2, 6, 6), (2,)]


def test_a_network_that_branches_on_its_input_cannot_be_traced() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(768, 2)

        def forward(self, images: Tensor) -> Tensor:
            return self.fc(images.flatten(1) if images.sum() > 0 else -images.flatten(1))

    with pytest.raises(torch.fx.proxy.TraceError):
        found_stages(Branching().eval(), IMAGES, inside=True)


def test_stages_can_be_named() -> None:
    model = Wrapped().eval()
    starts = {"head": "fc", "first": "encoder.blocks.0", "second": "encoder.blocks.1.one"}
    stages = named_stages(model, starts, IMAGES)
    assert list(stages) == ["first", "second", "head"]
    with torch.no_grad():
        assert torch.equal(composed(stages)(IMAGES), model(IMAGES))


@pytest.mark.parametrize(
    ("starts", "message"),
    [
        ({"a": "encoder.stern"}, "has no module 'encoder.stern'; at its top level are encoder, fc"),
        ({"a": "encoder.blocks.0.two"}, "no stage can begin with 'encoder.blocks.0.two'.*skip"),
        ({"a": "encoder", "b": "encoder.stem"}, "stages 'a' and 'b' begin at one module"),
        ({"labels": "fc"}, "no stage can be called 'labels'"),
        ({"upto": "fc"}, "no stage can be called 'upto'"),
        ({"a": "unused"}, "'unused' is not called"),
    ],
)
def test_stages_that_cannot_be_named_are_errors(starts: dict[str, str], message: str) -> None:
    model = Wrapped().eval()
    model.unused = nn.Linear(1, 1)
    with pytest.raises(ValueError, match=message):
        named_stages(model, starts, IMAGES)


class Halved(nn.Module):
    """A layer that a method inserts."""

    def forward(self, features: Tensor) -> Tensor:
        return features / 2


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("torchvision/resnet18", "layer2.0.conv1"),
        ("torchvision/resnet18", "layer3.0.downsample.0"),
        ("torchvision/densenet121", "features.features.denseblock3.denselayer7.conv2"),
        ("torchvision/vit_b_16", "block4.mlp"),
        ("timm/vit_tiny_patch16_224", "block3.attn.proj"),
        ("timm/densenet121", "block2.2.denselayer4.conv2"),
    ],
)
def test_a_layer_can_be_inserted_behind_a_module_inside_a_stage(name: str, module: str) -> None:
    if name.startswith("timm/"):
        pytest.importorskip("timm", reason="needs attnbench[timm]")
    backbone = load(name, untrained=True)
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    shapes = backbone.output_shapes(images[:1])
    assert module in shapes and len(shapes) > len(backbone.stages)
    before = dict(backbone.named_parameters())
    with torch.no_grad():
        for parameter in backbone.stage("head").parameters():
            parameter.normal_()  # torchvision's untrained ViT has a head of zeros
        expected = backbone(images)
        # By a hook, which does not change the network, what a layer behind the module must give.
        hook = backbone.get_submodule(module).register_forward_hook(
            lambda _, __, output: output / 2
        )
        halved = backbone(images)
        hook.remove()
        backbone.insert_after(module, Halved())
        assert torch.equal(backbone(images), halved)
    assert not torch.equal(halved, expected)
    assert {id(p) for p in backbone.parameters()} == {id(p) for p in before.values()}


def test_layers_can_be_inserted_one_after_the_other(backbone: Backbone) -> None:
    with torch.no_grad():
        expected = backbone.after("block1")(backbone.upto("block1")(IMAGES) / 4)
        for _ in range(2):
            backbone.insert_after("block1", Halved())
        assert torch.equal(backbone(IMAGES), expected)


def test_a_layer_is_inserted_wherever_a_module_is_registered() -> None:
    shared = nn.Conv2d(3, 3, 3)

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused, self.used = shared, shared

        def forward(self, images: Tensor) -> Tensor:
            return self.used(images)

    backbone = composed({"two": Two(), "pool": nn.Flatten()})
    with torch.no_grad():
        expected = shared(IMAGES).flatten(1) / 2
        backbone.insert_after("two.unused", Halved())
        assert torch.equal(backbone(IMAGES), expected)


def test_inserting_behind_an_unknown_module_names_similar_ones(backbone: Backbone) -> None:
    for name in ("block1.00", ""):
        with pytest.raises(ValueError, match=r"has no module .*`output_shapes`"):
            backbone.insert_after(name, Halved())
    with pytest.raises(ValueError, match=r"similar names: block1.0"):
        backbone.insert_after("block1.00", Halved())


def test_output_shapes_leave_out_modules_that_run_twice(backbone: Backbone) -> None:
    relu = nn.ReLU()
    shapes = composed({"a": nn.Sequential(relu, nn.Conv2d(3, 5, 1)), "b": relu}).output_shapes(
        IMAGES
    )
    assert shapes == {"a.1": torch.Size([5, 16, 16]), "a": torch.Size([5, 16, 16])}


def test_the_toml_names_stages(tmp_path: Path) -> None:
    file = tmp_path / "net.toml"
    file.write_text(
        'architecture = "torchvision/resnet18"\nsize = 64\n'
        '[stages]\nlow = "conv1"\nhigh = "layer3.1"\nhead = "fc"\n'
    )
    backbone = load(str(file), untrained=True)
    assert backbone.stages == ("low", "high", "head")
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert backbone.upto("low")(images).shape[1:] == (256, 4, 4)
        assert torch.equal(backbone(images), load("torchvision/resnet18", untrained=True)(images))
