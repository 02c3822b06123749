"""Backbones of the user's own: TOML files, functions, names, and what is said of wrong ones."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_networks import copy_examples, outputs_of, trained
from torchvision import models

from attnbench.backbone_names import absolute
from attnbench.backbones import Preprocessing, fingerprint, load
from attnbench.backbones.own_file import files_of, find_own, name_in_records
from attnbench.errors import AttnbenchError
from attnbench.stimuli.cache import PictureCache
from attnbench.stimuli.preprocessing import resize_and_crop


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """A copy of the shipped examples."""
    return copy_examples(tmp_path)


@pytest.fixture
def function_file(tmp_path: Path) -> Callable[[str], str]:
    """A function that writes the body of `make` to a file, and returns the name of the backbone."""

    def write(body: str) -> str:
        code = "import torch\nfrom torch import nn\n\ndef make():\n" + textwrap.indent(body, "    ")
        (tmp_path / "net.py").write_text(code)
        return f"{tmp_path}/net.py:make"

    return write


@pytest.fixture
def toml(tmp_path: Path) -> Callable[[str], str]:
    """A function that writes a TOML file and returns its path."""

    def write(text: str) -> str:
        path = tmp_path / "net.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_the_published_weights_and_labels_of_an_architecture(
    toml: Callable[[str], str], tmp_path: Path
) -> None:
    (tmp_path / "weights").mkdir()
    network = trained(models.squeezenet1_1())
    torch.save(network.state_dict(), tmp_path / "weights" / "squeezenet1_1.pth")
    file = toml('architecture = "torchvision/squeezenet1_1"\nmean = [0, 0, 0]\nname = "mine"')
    backbone = load(file, data=tmp_path)
    assert backbone.name == "own/mine"
    assert backbone.labels == load("torchvision/squeezenet1_1", untrained=True).labels
    assert backbone.preprocessing.mean == (0.0, 0.0, 0.0)  # whole numbers will do
    assert torch.equal(outputs_of(backbone, 64), outputs_of(network, 64))


def test_own_weights_have_no_labels_unless_the_file_names_them(
    toml: Callable[[str], str], tmp_path: Path
) -> None:
    torch.save(models.squeezenet1_1(num_classes=7).state_dict(), tmp_path / "seven.pth")
    text = 'architecture = "torchvision/squeezenet1_1"\nweights = "seven.pth"\n'
    backbone = load(toml(text))
    assert backbone.labels is None and outputs_of(backbone, 64).shape == (2, 7)
    with pytest.raises(AttnbenchError, match=r"7 outputs. Name as many labels.*, not 2"):
        load(toml(text + 'labels = ["a", "b"]'))
    (tmp_path / "names.txt").write_text("a\nb\n\nc d\ne\nf\ngü\nh\n", encoding="utf-8")
    assert load(toml(text + 'labels = "names.txt"')).labels == (
        "a",
        "b",
        "c d",
        "e",
        "f",
        "gü",
        "h",
    )
    imagenet = load(
        toml('architecture = "torchvision/squeezenet1_1"\nlabels = "imagenet"'), untrained=True
    )
    assert imagenet.labels is not None and imagenet.labels[0] == "n01440764"


def test_an_encoder_of_timm_has_no_numbers_for_labels() -> None:
    pytest.importorskip("timm", reason="needs attnbench[timm]")
    clip = load("timm/vit_xsmall_patch16_clip_224.tinyclip_yfcc15m", untrained=True)
    assert clip.labels is None and outputs_of(clip, 224).shape == (2, 512)


PROBLEMS = {
    "": "architecture: is missing",
    'architecture = "resnet18"': 'architecture: must be "torchvision/NAME"',
    'architecture = "torchvision/resnet19"': "has no classifier 'resnet19'",
    'architecture = "torchvision/resnet18"\nlables = ["a"]': r"lables: unknown key; .* \(allowed: arch",
    'architecture = "torchvision/resnet18"\nsize = "64"': r"size: .*integer, not '64'",
    'architecture = "torchvision/resnet18"\nsize = 0': r"size: .*greater than or equal to 1",
    'architecture = "torchvision/resnet18"\nstd = [1.0, 0.0, 1.0]': r"std.1: .*greater than 0",
    'architecture = "torchvision/resnet18"\nmean = [0.5]': r"mean: .*at least 3 items",
    'architecture = "torchvision/resnet18"\ninterpolation = "area"': r"interpolation: .*'bicubic'",
    'architecture = "torchvision/resnet18"\nlabels = 5': "labels: must be a list of texts, the name",
    'architecture = "torchvision/resnet18"\nlabels = ["a", "b", "a"]': "labels: 'a' is there twice",
    'architecture = "torchvision/resnet18"\nlabels = "none.txt"': r"cannot read .*none.txt: No such",
    'architecture = "torchvision/resnet18"\nname = "a/b"': r"name: .*pattern",
    'architecture = "torchvision/resnet18"\nignore = ["fc"]': "weights_key and ignore need weights",
    'architecture = "torchvision/resnet18"\nsize = 64\nresize = 32': "resize: 32 is smaller than size",
    'architecture = "torchvision/resnet18"\n[stages]\n"a.b" = "fc"': r"stages.a.b.*pattern",
    'architecture = "torchvision/resnet18"\n[stages]\na = "fd"': "the network has no module 'fd'",
    'architecture = "torchvision/vit_b_16"\nsize = 64': r"fails on images \[3, 3, 64, 64\].*`size`",
    'architecture = "none.py:make"': "there is no file .*none.py",
    'architecture = "no.such.module:make"': "cannot import no.such.module: ModuleNotFoundError",
    'architecture = "torchvision/squeezenet1_1"\nlabels = ["a"]': "there are 1, but .* 1000",
    "architecture = ": "net.toml is not valid TOML",
}


@pytest.mark.parametrize("text", PROBLEMS)
def test_what_is_wrong_with_a_file_is_said(text: str, toml: Callable[[str], str]) -> None:
    with pytest.raises(AttnbenchError, match=PROBLEMS[text]) as error:
        load(toml(text), untrained=True)
    assert "Traceback" not in str(error.value)


CODE_PROBLEMS = {
    "return 1": "net.py:make returned int; it must return an nn.Module",
    "raise KeyError('x')": r"net.py:make failed \(line 5\): KeyError: 'x'",
    "raise SystemExit(3)": r"net.py:make failed \(line 5\): SystemExit: 3",
    "return nn.Lin": r"failed \(line 5\): AttributeError",
    "return nn.Flatten()": "the network has no parameters",
    "return nn.Conv2d(3, 4, 3)": r"returns shape \[3, 4, 222, 222\].*must return a tensor \[3, k\]",
    "return nn.LSTM(224, 2)": r"fails on images \[3, 3, 224, 224\]",
    "class N(nn.Linear): pass\nreturn nn.Sequential(nn.Flatten(), N(150528, 2))": "cannot be pickled",
    "return": "returned NoneType",
}


@pytest.mark.parametrize("body", CODE_PROBLEMS)
def test_what_is_wrong_with_a_function_is_said(
    body: str, function_file: Callable[[str], str]
) -> None:
    with pytest.raises(AttnbenchError, match=CODE_PROBLEMS[body]) as error:
        load(function_file(body))
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_imported_is_said(tmp_path: Path) -> None:
    for code, problem in {
        "def make(:\n": r"cannot import .*net.py \(line 1\): SyntaxError",
        "import beside\n": r"ModuleNotFoundError.*not the files beside it",
        "x = 1\n": r"net.py has no function 'make'",
        "import sys\nsys.exit('usage')\n": r"cannot import .*\(line 2\): SystemExit: usage",
    }.items():
        (tmp_path / "net.py").write_text(code)
        (tmp_path / "beside.py").touch()
        with pytest.raises(AttnbenchError, match=problem):
            load(f"{tmp_path}/net.py:make")


@pytest.mark.parametrize(
    "wrapper",
    [
        "torch.compile(NETWORK)",
        "nn.DataParallel(NETWORK)",
        "nn.DataParallel(torch.compile(NETWORK))",
    ],
)
def test_a_function_may_return_a_wrapped_network(
    wrapper: str, function_file: Callable[[str], str]
) -> None:
    network = "nn.Sequential(nn.Conv2d(3, 2, 9, 9), nn.Flatten(), nn.Linear(1152, 2))"
    backbone = load(function_file("return " + wrapper.replace("NETWORK", network)))
    assert backbone.stages == ("layer0", "layer1", "head")


def test_a_function_may_return_a_backbone(toml: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import attnbench\nfrom attnbench.backbones import load\n"
        "def make():\n    return load('shipped/digits-cnn')\n"
    )
    bicubic = "replace(backbone.preprocessing, interpolation='bicubic')"
    (tmp_path / "bicubic.py").write_text(
        "from dataclasses import replace\nfrom attnbench.backbones import load\ndef make():\n"
        "    backbone = load('shipped/digits-cnn')\n"
        f"    backbone.preprocessing = {bicubic}\n    return backbone\n"
    )
    assert load(f"{tmp_path}/bicubic.py:make").preprocessing.interpolation == "bicubic"
    shipped, own = load("shipped/digits-cnn"), load(toml('architecture = "net.py:make"'))
    assert (own.stages, own.labels) == (shipped.stages, shipped.labels)
    assert own.preprocessing == shipped.preprocessing and own.name == "own/net"


def test_a_network_that_cannot_be_traced_is_split_before_its_last_layer(
    function_file: Callable[[str], str], tmp_path: Path
) -> None:
    name = function_file("return Net()")
    code = (tmp_path / "net.py").read_text()
    for forward, stages in {
        "return self.b(self.a(x)) if x.sum() > -1e9 else x": ("features", "head"),
        "return self.a(self.b(x.mean(3).mean(1))) if x.sum() > -1e9 else x": ("network",),
    }.items():
        layers = "nn.Sequential(nn.Flatten(), nn.Linear(150528, 4)), nn.Linear(4, 2)"
        if stages == ("network",):  # the last linear layer in order is not the last to run
            layers = "nn.Linear(4, 2), nn.Linear(224, 4)"
        (tmp_path / "net.py").write_text(
            f"{code}\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
            f"        self.a, self.b = {layers}\n    def forward(self, x):\n        {forward}\n"
        )
        backbone = load(name)
        assert backbone.stages == stages and outputs_of(backbone, 224).shape == (2, 2)


def test_a_network_changed_after_torchvision_built_it(function_file: Callable[[str], str]) -> None:
    body = "from torchvision import models\nnetwork = models.{}\n{}\nreturn network"
    vgg = load(function_file(body.format("vgg11()", "network.classifier = nn.Linear(25088, 3)")))
    assert vgg.stages[-2:] == ("pool", "head") and outputs_of(vgg, 224).shape == (2, 3)
    encoder = load(function_file(body.format("resnet18()", "network.fc = nn.Identity()")))
    assert encoder.stages == ("stem", "layer1", "layer2", "layer3", "layer4", "pool")


def test_the_fingerprint_covers_settings_and_code(examples: Path) -> None:
    toml, code = examples / "skip_network.toml", examples / "skip_network.py"
    fingerprints = [fingerprint(load(str(toml), untrained=True))]
    assert fingerprint(load(str(toml), untrained=True)) == fingerprints[0]
    for file, old, new in (
        (toml, "mean = [0.5", "mean = [0.4"),
        (toml, '"dog"', '"wolf"'),
        (code, "F.relu(features + ", "F.relu(features - "),
    ):
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))
        fingerprints.append(fingerprint(load(str(toml), untrained=True)))
    assert len(set(fingerprints)) == 4


def test_names_that_mean_no_backbone_are_explained(tmp_path: Path) -> None:
    (tmp_path / "net.py").touch()
    (tmp_path / "net.pth").touch()
    for name, hint in {
        str(tmp_path): r"is a folder; name the file in it: .*backbone.toml",
        f"{tmp_path}/net.py": r"name the function that returns the network, too: .*net.py:FUNCTION",
        f"{tmp_path}/net.pth": r"weights need an architecture: write a backbone.toml",
        f"{tmp_path}/none.toml": r"cannot read the backbone file .*none.toml: No such file",
        "resnet18": r"unknown backbone 'resnet18'; use shipped/NAME",
    }.items():
        with pytest.raises(AttnbenchError, match=hint):
            load(name)


def test_records_accept_the_name_whatever_the_file_is_called(tmp_path: Path) -> None:
    text = 'architecture = "torchvision/squeezenet1_1"'
    for stem, name in {
        "mein Netz (2)": "mein-Netz-2",
        "…": "backbone",
        "ü" * 80: "backbone",
    }.items():
        (tmp_path / f"{stem}.toml").write_text(text)
        assert name_in_records(str(tmp_path / f"{stem}.toml")) == f"own/{name}"
    assert name_in_records("torchvision/vgg16") == "torchvision/vgg16"


def test_the_files_of_a_backbone_and_its_name_elsewhere(
    examples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(examples)
    (examples / "skip_network.pth").touch()
    names = {"skip_network.toml", "skip_network.py", "skip_network.pth"}
    assert set(files_of("skip_network.toml")) == {examples / name for name in names}
    assert files_of("torchvision/vgg16") == ()
    assert absolute("skip_network.toml") == str(examples / "skip_network.toml")
    assert absolute("skip_network.py:make") == f"{examples}/skip_network.py:make"
    assert absolute("timm/resnet18.a1_in1k") == "timm/resnet18.a1_in1k"


def test_bicubic_is_what_pillow_gives_and_has_a_cache_of_its_own(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (3, 60, 40), dtype=np.uint8)
    half = (0.5,) * 3
    paths = set()
    for interpolation, pillow in (("bilinear", image.BILINEAR), ("bicubic", image.BICUBIC)):
        preprocessing = Preprocessing(20, 20, half, half, interpolation)  # type: ignore[arg-type]
        resized = resize_and_crop(picture, preprocessing).astype(int)
        expected = image.fromarray(picture.transpose(1, 2, 0)).resize((20, 30), pillow)
        expected = np.asarray(expected).transpose(2, 0, 1)[:, 5:25].astype(int)
        assert np.abs(resized - expected).max() <= 1
        paths.add(PictureCache(tmp_path, "pictures", preprocessing).path.name)
    assert paths == {"pictures-20-20.pictures", "pictures-20-20-bicubic.pictures"}


def test_a_device_in_place_of_a_file_of_labels_is_not_read(tmp_path: Path) -> None:
    """Reading a device such as /dev/zero would never end."""
    path = tmp_path / "backbone.toml"
    path.write_text('architecture = "torchvision/resnet18"\nlabels = "labels.txt"\n')
    (tmp_path / "labels.txt").symlink_to("/dev/null")
    with pytest.raises(AttnbenchError, match=r"labels\.txt: not a regular file"):
        find_own(str(path)).labels()
