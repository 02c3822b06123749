"""The precision that methods compute in is observed, and recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from attnbench.backbones import load
from attnbench.commands.check import noise_episode
from attnbench.judge.conditions import Conditions
from attnbench.judge.evaluator import Evaluator
from attnbench.judge.judge import open_judge
from attnbench.records.summary import summarise
from attnbench.runs.sweep import sweep
from attnbench.sandbox.precision import PrecisionObserver
from attnbench.submission import load_submission

pytestmark = pytest.mark.usefixtures("quick_fork_servers")

BACKBONE = "shipped/digits-cnn"


def observe(function: Callable[[], object]) -> set[str]:
    """Return the precisions observed while a function runs."""
    with PrecisionObserver() as observer:
        function()
    return observer.observed


def autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        nn.Linear(8, 8)(torch.ones(2, 8))


def product_in_place(dtype: torch.dtype) -> Tensor:
    square = torch.ones(3, 3, dtype=dtype)
    return torch.zeros_like(square).addmm_(square, square)


@torch.no_grad()
def transformer(dtype: torch.dtype) -> None:
    """Without gradients, PyTorch runs such a layer as one operation."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dtype=dtype).eval()
    layer(torch.ones(2, 5, 8, dtype=dtype))


@torch.no_grad()
def attention(dtype: torch.dtype) -> None:
    layer = nn.MultiheadAttention(8, 2, batch_first=True, dtype=dtype).eval()
    tokens = torch.ones(2, 5, 8, dtype=dtype)
    layer(tokens, tokens, tokens, need_weights=False)


def gradients_per_image(dtype: torch.dtype) -> Tensor:
    weight = torch.ones(8, 8, dtype=dtype)
    gradient = torch.func.grad(lambda row: (row @ weight).sum())
    return torch.func.vmap(gradient)(torch.ones(4, 8, dtype=dtype))


OPERATIONS: dict[str, Callable[[torch.dtype], object]] = {
    "linear": lambda dtype: nn.Linear(8, 2, dtype=dtype)(torch.ones(3, 8, dtype=dtype)),
    "convolution": lambda dtype: nn.Conv2d(3, 2, 3, dtype=dtype)(
        torch.ones(1, 3, 8, 8, dtype=dtype)
    ),
    "transposed convolution": lambda dtype: nn.ConvTranspose1d(3, 2, 3, dtype=dtype)(
        torch.ones(1, 3, 8, dtype=dtype)
    ),
    "einsum": lambda dtype: torch.einsum("ab,cb->ac", *torch.ones(2, 4, 4, dtype=dtype)),
    "in place": product_in_place,
    "scaled dot product": lambda dtype: functional.scaled_dot_product_attention(
        *torch.ones(3, 1, 2, 4, 8, dtype=dtype)
    ),
    "attention": attention,
    "transformer": transformer,
    "torch.func": gradients_per_image,
    "LSTM": lambda dtype: nn.LSTM(8, 4, dtype=dtype)(torch.ones(2, 5, 8, dtype=dtype)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_products_are_observed_in_the_precision_of_their_numbers(
    operation: str, dtype: torch.dtype
) -> None:
    assert observe(lambda: OPERATIONS[operation](dtype)) == {str(dtype).removeprefix("torch.")}


def test_autocast_is_observed() -> None:
    assert observe(autocast) == {"bfloat16"}


def test_backward_passes_are_observed() -> None:
    images = torch.ones(1, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    loss = nn.Conv2d(3, 2, 3, dtype=torch.float64)(images).sum()
    assert observe(loss.backward) == {"float64"}


def test_other_operations_are_not_observed() -> None:
    counts = torch.ones(2, 2, dtype=torch.int64)
    assert observe(lambda: (torch.ones(3).double().exp() * 2, counts @ counts)) == set()


@pytest.fixture
def settings() -> Iterator[None]:
    """Restore PyTorch's settings for products of float32 numbers."""
    matmul, mkldnn = torch.get_float32_matmul_precision(), torch.backends.mkldnn
    yield
    torch.set_float32_matmul_precision(matmul)
    mkldnn.conv.fp32_precision = mkldnn.rnn.fp32_precision = "none"


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="needs torch 2.9")
def test_settings_for_products_of_float32_numbers_are_observed(settings: None) -> None:
    def run(operation: str) -> set[str]:
        return observe(lambda: OPERATIONS[operation](torch.float32))

    torch.set_float32_matmul_precision("medium")
    assert run("linear") == run("transformer") == {"bfloat16"}
    assert run("convolution") == run("LSTM") == {"float32"}
    torch.backends.mkldnn.conv.fp32_precision = "bf16"
    torch.backends.mkldnn.rnn.fp32_precision = "bf16"
    assert run("convolution") == run("LSTM") == {"bfloat16"}
    torch.set_float32_matmul_precision("highest")
    assert run("linear") == {"float32"}


@pytest.fixture(scope="module")
def evaluator() -> Iterator[Evaluator]:
    with open_judge(Conditions(untrained=True)) as judge:
        yield judge.evaluator(BACKBONE)


# Submissions without the toolkit, and what is recorded of them.
PLAIN = {
    "autocast": (
        """
        import torch
        from torch import nn

        class Mixed(nn.Module):
            def __init__(self, network):
                super().__init__()
                self.network = network

            def forward(self, images):
                with torch.autocast(images.device.type, torch.bfloat16):
                    outputs = self.network(images)
                return outputs[:, 0].float()

        def adapt(backbone, pos, neg):
            return Mixed(backbone)
        """,
        ("bfloat16",),
    ),
    "trains-in-float64": (
        """
        import torch
        from torch import nn

        def adapt(backbone, pos, neg):
            with torch.no_grad():
                rows = torch.cat([backbone(pos), backbone(neg)]).double()
            labels = torch.tensor([1.0] * len(pos) + [-1.0] * len(neg)).double()
            weight = torch.linalg.pinv(rows) @ labels
            head = nn.Linear(rows.shape[1], 1)
            head.weight.data = weight[None].float()
            return nn.Sequential(backbone, head, nn.Flatten(0))
        """,
        ("float32", "float64"),
    ),
}


@pytest.mark.parametrize("name", PLAIN)
def test_record_of_a_submission_without_the_toolkit_shows_its_precision(
    evaluator: Evaluator, submission_folder: Callable[[str, str], Path], name: str
) -> None:
    code, expected = PLAIN[name]
    submission = load_submission(submission_folder(name, code))
    episode = noise_episode(load(BACKBONE, untrained=True))
    result = evaluator.judge(submission, episode, 30.0, cold=False).result
    assert result.reason == "" and result.precision == expected


def test_record_shows_the_precision_that_a_setting_asks_for(evaluator: Evaluator) -> None:
    episode = noise_episode(load(BACKBONE, untrained=True))
    submission = load_submission("prototype")
    (in_bfloat16,) = sweep(submission, {"precision": "bfloat16"})
    results = [
        evaluator.judge(each, episode, 30.0, cold=False).result
        for each in (submission, in_bfloat16)
    ]
    assert [result.precision for result in results] == [("float32",), ("bfloat16", "float32")]
    assert summarise(results).precision == ("bfloat16", "float32")


def test_unknown_precision_is_a_failure_with_a_reason(evaluator: Evaluator) -> None:
    (submission,) = sweep(load_submission("prototype"), {"precision": "half"})
    episode = noise_episode(load(BACKBONE, untrained=True))
    result = evaluator.judge(submission, episode, 30.0, cold=False).result
    assert result.status == "failed"
    assert 'unknown precision "half": use "float32" or "bfloat16"' in result.reason
