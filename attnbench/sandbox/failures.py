"""How a worker describes a failure of the submission."""

from __future__ import annotations

import traceback

import torch


class ContractViolation(Exception):
    """The submission has returned something that the contract does not allow."""


def describe_failure(error: BaseException, *, harness: str) -> dict[str, str]:
    """Return a one-line `reason` and a `detail`, the end of the traceback.

    Args:
        error: the exception that the submission raised. Converting it to a string may raise too.
        harness: the module whose frames are left out of the top of the traceback.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__") == harness:
        trace = trace.tb_next
    if isinstance(error, ContractViolation):
        reason = str(error)
    elif isinstance(error, SystemExit):
        reason = f"the submission called sys.exit({error.code!r})"
    elif isinstance(error, MemoryError | torch.OutOfMemoryError):
        reason = "the submission ran out of memory"
    else:
        reason = f"{type(error).__name__}: {_text_of(error)}".splitlines()[0]
    try:
        detail = "".join(traceback.format_exception(type(error), error, trace))
    except Exception:
        detail = ""
    return {"reason": reason[:1000], "detail": detail[-4000:]}


def _text_of(error: BaseException) -> str:
    try:
        return str(error).strip() or "no message"
    except Exception:
        return "its message cannot be read"
