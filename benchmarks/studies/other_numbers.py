"""What common modules hold beside tensors: the measurements behind the limits of `parameter_count`.

Run `python -m benchmarks.studies.other_numbers`. It needs peft, timm and transformers, but no data.
"""

from __future__ import annotations

from collections.abc import Iterator

import timm
import torchvision
import transformers
from peft import IA3Config, LoraConfig, inject_adapter_in_model
from tabulate import tabulate
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from attnbench.backbones import load
from attnbench.judge.parameter_count import contents_of_pickles
from attnbench.sandbox.packing import ArtefactPacker

_TORCHVISION = ("resnet50", "mobilenet_v2", "vit_b_16", "vgg16", "efficientnet_b0", "swin_t")
_TIMM = ("resnet18", "vit_small_patch16_224", "convnext_tiny", "maxvit_tiny_tf_224")


def modules() -> Iterator[tuple[str, nn.Module]]:
    """Yield modules as their libraries' documentation makes them, with random weights."""
    for name in _TORCHVISION:
        yield f"torchvision {name}", (network := torchvision.models.get_model(name).eval())
        last = get_graph_node_names(network)[1][-2]
        yield f"feature extractor of {name}", create_feature_extractor(network, [last])
    for name in _TIMM:
        yield f"timm {name}", timm.create_model(name)
    yield "transformers ViT", transformers.ViTModel(transformers.ViTConfig())
    labelled = transformers.ResNetConfig(num_labels=1000)
    yield "transformers ResNet", transformers.ResNetForImageClassification(labelled)
    for title, kind in (("LoRA", LoraConfig), ("(IA)³", IA3Config)):
        network = torchvision.models.resnet50()
        names = [name for name, m in network.named_modules() if isinstance(m, nn.Conv2d)]
        settings = {"feedforward_modules": names} if kind is IA3Config else {}
        config = kind(target_modules=names, **settings)
        yield f"peft {title} in ResNet-50", inject_adapter_in_model(config, network)


def main() -> None:
    """Print a table with a row for each module."""
    packer = ArtefactPacker(load("shipped/digits-cnn", untrained=True))
    rows = []
    for title, module in modules():
        (held,) = contents_of_pickles(packer.pack(module).structure)
        count = sum(1 for _ in module.modules())
        rows.append(
            (title, count, held.floats, held.integers, held.text, held.long_text, held.other)
        )
    headers = ("module", "modules", "floats", "integers", "text", "of it long", "other")
    print(tabulate(rows, headers, tablefmt="github", intfmt=","))


if __name__ == "__main__":
    main()
