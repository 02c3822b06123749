"""An extension of Griffe, which reads docstrings for mkdocstrings without importing the code."""

from __future__ import annotations

import copy
from typing import Any

import griffe

_MODULE = "attnbench.commands.evaluate"


class EvaluateReturnsAFrame(griffe.Extension):
    """Describes `attnbench.evaluate`: it is `run_evaluation`, wrapped to return a data frame."""

    def on_module_members(self, *, mod: griffe.Module, **_: Any) -> None:
        """Put a function in place of the assignment that makes `evaluate`."""
        if mod.path != _MODULE:
            return
        function = copy.copy(mod["run_evaluation"])
        function.name = "evaluate"
        function.returns = "pd.DataFrame"
        mod.set_member("evaluate", function)
