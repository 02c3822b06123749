"""`python -m pretraining.stawm WEIGHTS --data DIR`: the errors of three probes of a trained STAWM."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import safetensors.torch

from pretraining.probe import probe_error
from pretraining.recipes import CIFAR_SOURCE, MNIST_SOURCE
from pretraining.stawm.network import stawm_backbone, untrained_stawm
from pretraining.stawm.probe import published_probe_error

_SOURCES = {"cifar": CIFAR_SOURCE, "mnist": MNIST_SOURCE}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the errors of two linear probes and of the published one."""
    parser = argparse.ArgumentParser(
        prog="python -m pretraining.stawm",
        description="Print the 10-way errors of probes of a trained STAWM.",
    )
    parser.add_argument(
        "weights", type=Path, help="weights file written by the training, or - for initial weights"
    )
    parser.add_argument(
        "--pictures",
        choices=sorted(_SOURCES),
        default="cifar",
        help="data set that the weights were trained on (default: cifar)",
    )
    parser.add_argument("--data", type=Path, help="data folder (default: load from the hub)")
    options = parser.parse_args(arguments)
    backbone = untrained_stawm(options.weights.stem)
    if options.weights != Path("-"):
        backbone.load_state_dict(safetensors.torch.load_file(options.weights))
    memory = stawm_backbone({"memory": backbone.stage("memory")}, backbone.name)
    source = _SOURCES[options.pictures]
    for name, (error, parameters) in {
        "linear, on the 32 means": probe_error(backbone, source, options.data),
        "linear, on the memory's answer": probe_error(memory, source, options.data),
        "as published": published_probe_error(backbone, source, options.data),
    }.items():
        print(f"{name}: error {error:.2%}, {parameters:,} parameters in the probe", flush=True)


if __name__ == "__main__":
    main()
