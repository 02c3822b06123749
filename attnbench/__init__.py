"""attnbench: a judge for ways of re-purposing a trained vision network."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnbench.adaptation import log_odds
    from attnbench.backbones.backbone import Backbone
    from attnbench.checking import check
    from attnbench.comparing import compare
    from attnbench.errors import AttnbenchError, NotApplicable
    from attnbench.runs.announcing import status
    from attnbench.runs.run import evaluate
    from attnbench.scaffold import new
    from attnbench.verifying import verify

__version__ = "0.1.0"
__all__ = [
    "AttnbenchError",
    "Backbone",
    "NotApplicable",
    "check",
    "compare",
    "evaluate",
    "log_odds",
    "new",
    "status",
    "verify",
]

_HOME = {
    "AttnbenchError": "attnbench.errors",
    "Backbone": "attnbench.backbones.backbone",
    "NotApplicable": "attnbench.errors",
    "check": "attnbench.checking",
    "compare": "attnbench.comparing",
    "evaluate": "attnbench.runs.run",
    "log_odds": "attnbench.adaptation",
    "new": "attnbench.scaffold",
    "status": "attnbench.runs.announcing",
    "verify": "attnbench.verifying",
}


def __getattr__(name: str) -> Any:
    # Public names are imported where they are used: `attnbench --help` must not wait for torch.
    if name not in _HOME:
        raise AttributeError(f"module 'attnbench' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
