"""The audit of a record, kept beside it: how the submission scores on episodes of a secret seed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from attnbench.records.companions import Companion, read_companion
from attnbench.records.record import Finite, Text


class Audit(Companion):
    """The outcome of `attnbench verify --audit`.

    The recorded and the new figures are means over the same targets. In the new ones, a target that
    failed counts as chance, 0.

    Attributes:
        seed: the seed that the new episodes were drawn with.
        targets: the targets of the new episodes.
        failures: why episodes failed, one line for each.
        new_images: the share of the new test images that the record was not tested on.
        d_prime, d_a: of the new episodes, in z units.
        d_prime_recorded, d_a_recorded: of the recorded episodes.
        low, high: the 95 % interval of d_a - d_a_recorded over targets. With one target it allows for
            other test images only.
    """

    seed: Annotated[int, Field(ge=0)]
    targets: Annotated[tuple[Text, ...], Field(min_length=1)]
    failures: tuple[Text, ...] = ()
    new_images: Annotated[float, Field(ge=0, le=1)]
    d_prime: Finite
    d_prime_recorded: Finite
    d_a: Finite
    d_a_recorded: Finite
    low: Finite
    high: Finite

    @property
    def difference(self) -> float:
        """The difference in d_a, new - recorded."""
        return self.d_a - self.d_a_recorded

    @property
    def is_conclusive(self) -> bool:
        """Whether it shows anything: one target, or no new image, cannot tell luck from tuning."""
        return len(self.targets) > 1 and self.new_images > 0

    @property
    def is_beyond_chance(self) -> bool:
        """Whether the recorded episodes went better than chance explains.

        That is so if the interval is below 0. A new episode that failed is worse than any score.
        """
        return self.is_conclusive and (self.high < 0 or bool(self.failures))

    @property
    def conclusion(self) -> str:
        """What it shows, in a few words."""
        if len(self.targets) == 1:
            return "one target is too few to tell"
        if not self.new_images:
            return "the data has no other test images, so this shows nothing"
        return "better on public seeds" if self.is_beyond_chance else "within chance"


def audit_file(record: Path) -> Path:
    """Return the file of a record's audit, given the record's file."""
    return record.with_name(f"{record.name}.audit")


def read_audit(record: Path) -> Audit | None:
    """Return a record's audit; None if there is no valid one of this version of the record."""
    return read_companion(Audit, audit_file(record), record)
