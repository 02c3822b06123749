"""attnbench: a judge for methods that re-purpose a trained vision network for a new target."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from attnbench.version import __version__

if TYPE_CHECKING:
    from attnbench.adaptation import log_odds
    from attnbench.backbones.backbone import Backbone
    from attnbench.commands.audit import audit
    from attnbench.commands.check import check
    from attnbench.commands.compare import compare
    from attnbench.commands.compare_people import compare_with_people
    from attnbench.commands.curve import curve
    from attnbench.commands.evaluate import evaluate
    from attnbench.commands.explain import explain
    from attnbench.commands.interference import interference
    from attnbench.commands.new import new
    from attnbench.commands.open_episode import episode
    from attnbench.commands.publish import publish
    from attnbench.commands.verify import verify
    from attnbench.errors import AttnbenchError, NotApplicable
    from attnbench.leaderboard.results_plot import plot
    from attnbench.records.store import scores
    from attnbench.runs.status_file import status
    from attnbench.statistics.detection import detect

__all__ = [
    "AttnbenchError",
    "Backbone",
    "NotApplicable",
    "__version__",
    "audit",
    "check",
    "compare",
    "compare_with_people",
    "curve",
    "detect",
    "episode",
    "evaluate",
    "explain",
    "interference",
    "log_odds",
    "new",
    "plot",
    "publish",
    "scores",
    "status",
    "verify",
]

_MODULES = {
    "AttnbenchError": "attnbench.errors",
    "Backbone": "attnbench.backbones.backbone",
    "NotApplicable": "attnbench.errors",
    "audit": "attnbench.commands.audit",
    "check": "attnbench.commands.check",
    "compare": "attnbench.commands.compare",
    "compare_with_people": "attnbench.commands.compare_people",
    "curve": "attnbench.commands.curve",
    "detect": "attnbench.statistics.detection",
    "episode": "attnbench.commands.open_episode",
    "evaluate": "attnbench.commands.evaluate",
    "explain": "attnbench.commands.explain",
    "interference": "attnbench.commands.interference",
    "log_odds": "attnbench.adaptation",
    "new": "attnbench.commands.new",
    "plot": "attnbench.leaderboard.results_plot",
    "publish": "attnbench.commands.publish",
    "scores": "attnbench.records.store",
    "status": "attnbench.runs.status_file",
    "verify": "attnbench.commands.verify",
}


def __getattr__(name: str) -> Any:
    # Public names are imported on first use: `attnbench --help` must not wait for torch.
    if name not in _MODULES:
        raise AttributeError(f"module 'attnbench' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
