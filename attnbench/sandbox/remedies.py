"""What to do about the exceptions that submissions raise most often."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from importlib.metadata import packages_distributions

from attnbench.text import did_you_mean

# Patterns of a failure's reason, and what to do about it. Texts of torch 2.8 and Python 3.11 to 3.14.
_REMEDIES = {
    "mat1 and mat2 shapes cannot be multiplied": "flatten feature maps with `.flatten(1)`, and take "
    "the size of a layer from the features: `features.shape[1]`",
    "input to conv2d": "images are `[n, 3, H, W]`: keep all four dimensions",
    "on the same device|is not on the expected device|device type .* (different from|and)": "create "
    "tensors with `device=pos.device`, and keep them with `self.register_buffer`",
    "not compiled with CUDA|No CUDA GPUs|Found no NVIDIA driver": "write `.to(pos.device)`, not "
    "`.cuda()`",
    "does not require grad and does not have a grad_fn": "the backbone is frozen: train parameters "
    "of your own, or call `requires_grad_()` on those of the backbone that you train",
    "optimizer got an empty parameter list": "register what you train as `nn.Parameter` or module; "
    "lists of modules as `nn.ModuleList`",
    "Inference tensors": "write `torch.no_grad()`, not `torch.inference_mode()`",
    "Expected more than 1 value per channel when training": "call `.eval()` on batch norm first",
    "'Backbone' object has no attribute": "a backbone consists of stages: `backbone.stages` names "
    "them, `backbone.stage(NAME)` and `backbone.upto(NAME)` return them",
    'missing the required "forward" function': "write `def forward(self, images)` in that class",
    "URLError|ConnectionError|gaierror": "a worker has no network: use the backbone that adapt is "
    "given",
    r"^PermissionError: \[Errno 13\] Permission denied$": "a worker may not start processes that share "
    "memory: write `DataLoader(…, num_workers=0)`, since the images are in memory already",
    "^(FileNotFoundError|PermissionError): .*: '": "a worker sees only the submission's files and "
    "installed libraries: open `Path(__file__).parent / NAME` in adapt, and keep what was read in "
    "the detector",
}


def remedy_for(reason: str, line: str, own_modules: Iterable[str]) -> str:
    """Return what to do about an exception; empty if there is nothing to say.

    Args:
        reason: its type and its message.
        line: the line of the submission that raised it.
        own_modules: the names of the submission's own modules.
    """
    if missing := re.search(r"^ModuleNotFoundError: No module named '([\w.]+)'", reason):
        return _instead_of_missing(missing[1], own_modules)
    if "attempted relative import" in reason:
        return f"write `{_absolute(line)}`: the submission's files are not a package"
    return next((text for pattern, text in _REMEDIES.items() if re.search(pattern, reason)), "")


def _instead_of_missing(module: str, own_modules: Iterable[str]) -> str:
    """Say what to do about a module that cannot be imported."""
    top_level, _, rest = module.partition(".")
    if top_level == "attnbench":
        return (
            "workers see no part of attnbench except attnbench.adaptation and attnbench.backbones"
        )
    if (own := rest.rpartition(".")[2]) in own_modules:
        return f"write `import {own}`, without the names of folders"
    known = {*own_modules, *packages_distributions(), *sys.stdlib_module_names}
    if meant := did_you_mean(top_level, sorted(known)):
        return meant
    return (
        f"pip install the library that has it, and name the library in `libraries = [...]` of "
        f"submission.toml; or put your {top_level}.py into the submission's folder"
    )


def _absolute(statement: str) -> str:
    """Return a relative import as an absolute one."""
    if names := re.match(r"from\s+\.+\s*import\s+(.+)", statement):
        return f"import {names[1]}"
    return re.sub(r"^from\s+\.+", "from ", statement) or "from helper import …"
