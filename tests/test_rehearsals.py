"""How many images a method rehearses on, before its adaptation is timed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from attnbench.sandbox import worker


class _Rehearsals:
    """Notes the images of each rehearsal, in the place of a worker's context.

    Args:
        pass_seconds: how long the pass took.
        needed: the fewest images that the method accepts.
    """

    def __init__(self, pass_seconds: float, needed: int) -> None:
        self.pass_seconds = pass_seconds
        self.state = self
        self.images: list[int] = []
        self.copies = 0
        self._needed = needed

    def rehearse(self, adapt: object, context: object, counts: Sequence[int]) -> None:
        self.images.append(sum(counts))
        if sum(counts) < self._needed:
            raise ValueError("too few images")

    def renew_rehearsal(self) -> None:
        self.copies += 1


@pytest.mark.parametrize(
    ("pass_seconds", "needed", "images"),
    [(0.5, 0, [40]), (2.0, 0, [16]), (2.0, 40, [16, 40])],
)
def test_a_rehearsal_has_all_images_unless_a_pass_over_them_takes_long(
    monkeypatch: pytest.MonkeyPatch, pass_seconds: float, needed: int, images: list[int]
) -> None:
    context = _Rehearsals(pass_seconds, needed)
    monkeypatch.setattr(worker, "_rehearse", context.rehearse)
    monkeypatch.setattr(worker, "forget_output", lambda: None)
    worker._rehearse_until_warm(lambda: None, context, [20, 20])  # type: ignore[arg-type]
    assert context.images == images
    # A method may change the copy of the backbone that it rehearses on.
    assert context.copies == len(images) - 1
