"""VGG's largest layer in float32, as the toolkit has it computed and as PyTorch does.

python -m benchmarks run benchmarks/test_large_layers.py
"""

from __future__ import annotations

import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from attnbench.adaptation.large import with_large_layers
from benchmarks.conftest import Keep
from benchmarks.measured import Figure
from benchmarks.rounds import in_rounds, seconds_of

TABLE, IMAGES, ROUNDS = "large layers", 64, 10


def test_a_large_layer(benchmark: BenchmarkFixture, keep: Keep) -> None:
    layer = nn.Linear(25_088, 4_096).requires_grad_(False)
    quick = with_large_layers(layer)
    rows = torch.randn(IMAGES, layer.in_features, requires_grad=True)

    def forward(network: nn.Module) -> Tensor:
        said: Tensor = network(rows)
        return said

    def backward(said: Tensor) -> None:
        torch.autograd.grad(said.sum(), rows)

    def both() -> tuple[float, float, float]:
        one, other = forward(layer), forward(quick)
        usual = seconds_of(lambda: forward(layer))
        there = seconds_of(lambda: forward(quick)) / usual
        back = seconds_of(lambda: backward(other)) / seconds_of(lambda: backward(one))
        return usual, there, back

    usual, there, back = zip(*in_rounds(benchmark, both, ROUNDS), strict=True)
    keep(
        TABLE,
        Figure(row="forward", column="PyTorch's", unit="s", values=usual),
        Figure(row="forward", column="oneDNN's", values=there),
        Figure(row="backward", column="oneDNN's", values=back),
    )
