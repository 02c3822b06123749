"""The result of trying a submission out, without scoring it."""

from __future__ import annotations

from dataclasses import dataclass, field

from attnbench.judge.parameter_count import ArtefactSize
from attnbench.judge.replies import Remarks


@dataclass(frozen=True)
class Trial:
    """The result of trying a submission out.

    Attributes:
        reason: why the submission failed; empty if it did not fail.
        detail: the exception, with the frames of the submission's own files; empty without one.
        size: the size of its artefact; None if it has delivered none.
        changed: the names of the backbone's tensors that it has changed.
        deterministic: whether two adaptations gave the same artefact.
        not_applicable: whether the submission itself says that it does not apply to the backbone.
        remarks: what a worker remarks about its detector.
    """

    reason: str = ""
    detail: str = ""
    size: ArtefactSize | None = None
    changed: tuple[str, ...] = ()
    deterministic: bool = True
    not_applicable: bool = False
    remarks: Remarks = field(default_factory=Remarks)
