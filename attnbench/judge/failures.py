"""Failures of an episode."""

from __future__ import annotations

import signal

from attnbench.vocabulary import Status


class EpisodeFailure(Exception):
    """An episode cannot be judged.

    Attributes:
        reason: one line for the table.
        detail: the exception with the frames of the submission's own files.
        traceback: the exception with all frames.
        status: `failed`, or `not applicable` if the submission says so itself.
        printed: what the submission has printed, see `Worker.printed`.
    """

    def __init__(
        self,
        reason: str,
        detail: str = "",
        traceback: str = "",
        *,
        status: Status = "failed",
        printed: str = "",
    ) -> None:
        super().__init__(reason)
        self.reason = valid_unicode(reason)
        self.detail = valid_unicode(detail)
        self.traceback = valid_unicode(traceback)
        self.status = status
        self.printed = printed


class WorkerKilled(EpisodeFailure):
    """The worker was killed by SIGKILL, and not by the judge."""


def valid_unicode(text: str) -> str:
    """Replace lone surrogates, which JSON can carry but UTF-8 cannot encode, by question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def describe_exit(status: int | None) -> str:
    """Say in words how a process ended.

    Args:
        status: its exit code, negative for a signal; None if it was still alive.
    """
    if status is None:
        return "closed its channel"
    if status < 0:
        has_name = -status in list(signal.Signals)  # real-time signals have none
        name = signal.Signals(-status).name if has_name else f"signal {-status}"
        return f"was ended by {name}"
    return f"ended by itself (exit code {status})"
