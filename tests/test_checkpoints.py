"""Files of weights: each kind either loads, or is an error that says what is wrong and what to do."""

from __future__ import annotations

import argparse
import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torchvision import models

from attnbench.backbones import load
from attnbench.backbones.weights_files import read_tensors
from attnbench.errors import AttnbenchError

NETWORK = """
from torch import nn

def make():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    )
"""
Write = Callable[..., str]
State = dict[str, Tensor]


def network(outputs: int = 3, seed: int = 1) -> nn.Sequential:
    """The network of `NETWORK` with other weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        pool = (nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), *pool, nn.Linear(4, outputs))
    return model.eval()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A function that writes a checkpoint and a TOML file for it, and returns the TOML's path."""

    def write(checkpoint: object, settings: str = "", file: str = "weights.pth") -> str:
        (tmp_path / "network.py").write_text(NETWORK)
        if isinstance(checkpoint, bytes):
            (tmp_path / file).write_bytes(checkpoint)
        else:
            torch.save(checkpoint, tmp_path / file)
        toml = tmp_path / "net.toml"
        toml.write_text(
            f'architecture = "network.py:make"\nweights = "{file}"\nsize = 8\n{settings}'
        )
        return str(toml)

    return write


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def in_optimiser(state: State) -> dict[str, Any]:
    momenta = {n: {"exp_avg": torch.zeros_like(t)} for n, t in enumerate(state.values())}
    return {"state": momenta, "param_groups": [{"lr": 0.1}]}


LAYOUTS: dict[str, Callable[[State], Any]] = {
    "plain": lambda state: state,
    "data_parallel": lambda state: prefixed("module.", state),
    "compiled": lambda state: prefixed("_orig_mod.", state),
    "compiled_layers": lambda state: {
        name.replace("0.", "0._orig_mod.", 1): tensor for name, tensor in state.items()
    },
    "data_parallel_of_compiled": lambda state: prefixed("module._orig_mod.", state),
    "state_dict": lambda state: {"epoch": 3, "state_dict": state, "optimizer": in_optimiser(state)},
    "model_in_lightning": lambda state: {
        "state_dict": prefixed("model.", state) | {"criterion.weight": torch.ones(3)},
        "hyper_parameters": {"lr": 0.1},
    },
    "nested": lambda state: {"model": {"state_dict": prefixed("module.", state)}},
    "ema_alone": lambda state: {"model_ema": prefixed("module.", state)},
    "averaged_model": lambda state: {"n_averaged": torch.tensor(7), **prefixed("module.", state)},
    "double_precision": lambda state: {name: tensor.double() for name, tensor in state.items()},
    "with_arguments": lambda state: {"model": state, "args": argparse.Namespace(lr=0.1)},
    "older_batch_norm": lambda state: {
        name: tensor for name, tensor in state.items() if "num_batches" not in name
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layouts_of_training_scripts_are_understood(layout: str, write: Write) -> None:
    trained = network()
    backbone = load(write(LAYOUTS[layout](trained.state_dict())))
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(backbone(images), trained(images))


def test_safetensors_are_recognised_whatever_their_name(write: Write) -> None:
    trained = network()
    content = safetensors.torch.save(prefixed("module.", trained.state_dict()))
    images = torch.randn(2, 3, 8, 8)
    for file in ("weights.safetensors", "weights.pth"):
        with torch.no_grad():
            assert torch.equal(load(write(content, file=file))(images), trained(images))


def test_a_checkpoint_with_an_average_over_training_asks_which_network(write: Write) -> None:
    last, average = network(seed=1), network(seed=2)
    checkpoint = {"model": last.state_dict(), "model_ema": {"module": average.state_dict()}}
    with pytest.raises(
        AttnbenchError, match=r"holds the network 2 times.*weights_key = \"model\" or"
    ):
        load(write(checkpoint))
    images = torch.randn(2, 3, 8, 8)
    for key, expected in (("model", last), ("model_ema", average), ("model_ema.module", average)):
        backbone = load(write(checkpoint, f'weights_key = "{key}"'))
        with torch.no_grad():
            assert torch.equal(backbone(images), expected(images))
    with pytest.raises(AttnbenchError, match="no tensors whose names begin with 'ema'"):
        load(write(checkpoint, 'weights_key = "ema"'))


def test_a_missing_head_makes_an_encoder(write: Write) -> None:
    trained = network()
    state = {name: tensor for name, tensor in trained.state_dict().items() if name[0] != "5"}
    backbone = load(write(state))
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(backbone(images), trained[:5](images))
    assert backbone.labels is None and "head" not in backbone.stages
    with pytest.raises(AttnbenchError, match=r"lacks the last layer \(5.bias, 5.weight\).*labels"):
        load(write(state, 'labels = ["a", "b", "c"]'))


def test_a_surplus_head_is_named_and_can_be_ignored(write: Write) -> None:
    trained = network()
    state = trained.state_dict() | {"projector.weight": torch.ones(2, 3), "queue": torch.ones(9)}
    with pytest.raises(AttnbenchError) as error:
        load(write(state))
    assert "2 tensors differ" in str(error.value)
    assert "projector.weight: [2, 3], only in the file" in str(error.value)
    assert 'ignore = ["projector", "queue"]' in str(error.value)
    backbone = load(write(state, 'ignore = ["projector", "queue"]'))
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(backbone(images), trained(images))
    with pytest.raises(AttnbenchError, match="has no tensors of a module 'project'"):
        load(write(state, 'ignore = ["projector", "queue", "project"]'))


def test_another_number_of_outputs_of_a_function_is_explained(write: Write) -> None:
    with pytest.raises(AttnbenchError) as error:
        load(write(network(outputs=7).state_dict()))
    assert "5.weight: [7, 4] in the file, [3, 4] in the network" in str(error.value)
    assert "The file has 7 outputs. Let the function return a network with as many" in str(
        error.value
    )


def test_only_the_first_differences_are_listed(write: Write) -> None:
    with pytest.raises(AttnbenchError) as error:
        load(write(models.squeezenet1_1().state_dict()))
    assert len(str(error.value).splitlines()) == 8
    assert "more" in str(error.value) and "`architecture` must be the network" in str(error.value)
    state = {name: tensor for name, tensor in network().state_dict().items() if name[0] != "0"}
    with pytest.raises(AttnbenchError, match=r"lacks 2 of the network's tensors: 0.bias, 0.weight"):
        load(write(state))


def test_weights_that_are_not_finite_are_refused(write: Write) -> None:
    state = network().state_dict()
    state["0.weight"][0] = torch.nan
    with pytest.raises(AttnbenchError, match=r"0.weight holds NaN or infinite values"):
        load(write(state))


def saved(content: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


class RunsCode:
    """An object whose unpickling runs a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch RAN",)


def scripted() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), buffer)
    return buffer.getvalue()


ITSELF: dict[str, Any] = {"a": 1}
ITSELF["itself"] = ITSELF
STATE = network().state_dict()
UNUSABLE = {
    "empty": (b"", "is empty"),
    "html": (b"<!DOCTYPE html><html>404</html>", "is a web page"),
    "html_after_blanks": (b"\n  <html>404</html>", "is a web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer"),
    "truncated": (saved(STATE)[:2000], "is truncated"),
    "truncated_in_half": (saved(STATE, _use_new_zipfile_serialization=False)[:900], "is truncated"),
    "legacy_header": (saved(STATE, _use_new_zipfile_serialization=False)[:30], "is truncated"),
    "truncated_safetensors": (safetensors.torch.save(STATE)[:-50], "is truncated or damaged"),
    "bytes": (bytes(range(256)) * 9, "not a file of weights"),
    "text": (b"hello world", "not a file of weights"),
    "code": (saved({"a": RunsCode()}), r"holds more than tensors \(.*system\).*weights_only=True"),
    "pickled_code": (pickle.dumps(RunsCode(), 2), r"holds more than tensors|not a file of weights"),
    "whole_network": (
        saved(nn.Linear(2, 2)),
        r"more than tensors \(torch.*Linear\).*state_dict\(\)",
    ),
    "scripted": (scripted(), r"more than tensors \(a TorchScript program\)"),
    "one_tensor": (saved(torch.ones(3)), "holds a Tensor, not tensors by name"),
    "no_tensors": (saved({"epoch": 3}), "holds no tensors"),
    "itself": (saved(ITSELF), "holds no tensors"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", UNUSABLE)
def test_an_unusable_file_is_an_error_that_names_it(
    kind: str, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content, message = UNUSABLE[kind]
    with pytest.raises(AttnbenchError, match=message) as error:
        load(write(content))
    assert str(tmp_path / "weights.pth") in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "RAN").exists()


def test_a_missing_file_of_weights_is_an_error_that_names_it(write: Write, tmp_path: Path) -> None:
    toml = write(STATE)
    (tmp_path / "weights.pth").unlink()
    with pytest.raises(AttnbenchError, match=r"weights.pth: No such file"):
        load(toml)
    (tmp_path / "weights.pth").mkdir()
    with pytest.raises(AttnbenchError, match=r"weights.pth: Is a directory"):
        load(toml)


def test_the_names_of_older_densenets_are_understood(tmp_path: Path) -> None:
    torch.save({"features.denselayer1.norm.1.weight": torch.ones(1)}, tmp_path / "old.pth")
    assert list(read_tensors(tmp_path / "old.pth")) == ["features.denselayer1.norm1.weight"]


@pytest.mark.parametrize("file", ["squeezenet1_1.pth", "squeezenet1_1-b8a52dc0.pth"])
def test_pth_files_in_the_data_folder_are_used(file: str, tmp_path: Path) -> None:
    trained = models.squeezenet1_1().eval()
    (tmp_path / "weights").mkdir()
    torch.save(
        {"state_dict": prefixed("module.", trained.state_dict())}, tmp_path / "weights" / file
    )
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(
            load("torchvision/squeezenet1_1", data=tmp_path)(images), trained(images)
        )


def test_two_files_for_one_network_are_an_error_that_names_both(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    for file in ("squeezenet1_1-old.pth", "squeezenet1_1-new.safetensors"):
        (tmp_path / "weights" / file).touch()
    with pytest.raises(AttnbenchError, match=r"2 files.*squeezenet1_1-new.*squeezenet1_1-old"):
        load("torchvision/squeezenet1_1", data=tmp_path)


def test_own_weights_in_the_data_folder_are_an_error_that_mentions_the_toml(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    state = models.squeezenet1_1(num_classes=5).state_dict()
    torch.save(state, tmp_path / "weights" / "squeezenet1_1.pth")
    with pytest.raises(AttnbenchError) as error:
        load("torchvision/squeezenet1_1", data=tmp_path)
    assert "classifier.1.bias: [5] in the file, [1000] in the network" in str(error.value)
    assert 'architecture = "torchvision/squeezenet1_1"' in str(error.value)
