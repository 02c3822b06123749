"""`attnbench try`: one episode of a submission in this process, while its author works on it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from attnbench.commands.in_process import adapt_in_process
from attnbench.commands.open_episode import OpenEpisode, episode
from attnbench.errors import AttnbenchError
from attnbench.records.record import EpisodeResult
from attnbench.sandbox.contract import find_adapt
from attnbench.sandbox.failures import ContractViolation
from attnbench.sandbox.places import line_of_error
from attnbench.sandbox.remedies import remedy_for
from attnbench.submission import SOURCE, load_submission
from attnbench.vocabulary import TRIED_TASK, DeviceKind


@dataclass(frozen=True)
class Attempt:
    """One episode of a submission.

    Attributes:
        submission: the submission's name.
        episode: the episode.
        result: measures and cost, as in a record. Times are rough.
        remarks: problems and warnings that `attnbench check` would name, one line each.
    """

    submission: str
    episode: OpenEpisode
    result: EpisodeResult
    remarks: tuple[str, ...]


def try_out(
    submission: str | Path,
    *,
    task: str | Path = TRIED_TASK,
    target: str | None = None,
    seed: int = 0,
    track: str | None = None,
    backbone: str | None = None,
    device: DeviceKind = "cpu",
    data: Path | None = None,
    untrained: bool = False,
    on_episode: Callable[[str, OpenEpisode], None] | None = None,
) -> Attempt:
    """Run one episode of a submission in this process. Nothing is isolated or recorded.

    Args:
        submission: a folder, or the name of a shipped submission.
        task, target, seed, track, backbone, device, data, untrained: as for `attnbench.episode`.
        on_episode: called with the submission's name and the episode before the submission runs.

    Raises:
        AttnbenchError: if the submission or the episode cannot be read, or the submission does not
            keep the contract.
        Exception: whatever the submission raises.
    """
    tried = load_submission(submission)
    chosen = episode(
        task,
        target,
        seed,
        track=track,
        backbone=backbone,
        device=device,
        data=data,
        untrained=untrained,
    )
    if on_episode is not None:
        on_episode(tried.name, chosen)
    adapt = import_adapt(tried.folder)
    settings = tried.hyperparameters_for(chosen.backbone.name)
    adaptation = adapt_in_process(adapt, chosen.backbone, chosen.drawn, settings, submission=tried)
    outcome = adaptation.test(chosen.drawn)
    return Attempt(tried.name, chosen, outcome.result, outcome.remarks)


def remedy(error: Exception, submission: str | Path) -> str:
    """Return what to do about an exception of a submission; empty if there is nothing to say.

    Args:
        error: the exception.
        submission: a folder, or the name of a shipped submission.
    """
    folder = load_submission(submission).folder
    reason = f"{type(error).__name__}: {error}"
    own_modules = {path.stem for path in folder.glob("*.py")}
    return remedy_for(reason, line_of_error(error, folder), own_modules)


def import_adapt(folder: Path) -> Callable[..., object]:
    """Import a submission from its own folder, so that debuggers and tracebacks show its files."""
    module = SOURCE.removesuffix(".py")
    # Another submission may have been imported before, with helpers of the same name.
    for name, loaded in list(sys.modules.items()):
        file = getattr(loaded, "__file__", None)
        if name == module or (file is not None and Path(file).is_relative_to(folder)):
            del sys.modules[name]
    # In front of the folders of earlier submissions, and for good: `adapt` may import a helper when it
    # runs.
    sys.path[:] = [str(folder), *(entry for entry in sys.path if entry != str(folder))]
    importlib.invalidate_caches()
    try:
        return find_adapt(vars(importlib.import_module(module)))
    except ContractViolation as violation:
        raise AttnbenchError(f"{folder / SOURCE}: {violation}") from None
