"""Sentences about standings that the page and the site share, as plain text."""

from __future__ import annotations

from attnbench.leaderboard.comparable import CONTROL
from attnbench.leaderboard.standings import Standings, StandingsRow


def describe_tests(standings: Standings) -> str:
    """Return what was compared and tested, and the differences that the tests can find."""
    if not standings.compared:
        return "No method has results that can be compared."
    number = sum(not row.placement.lacking for row in standings.rows)
    over = [
        _count(len(standings.compared), "task and backbone", "pairs of task and backbone"),
        _count(standings.targets, "target"),
        _count(standings.seeds, "seed"),
    ]
    text = f"{_count(number, 'method')} compared on {over[0]}, with {over[1]} and {over[2]}. "
    if all(row.placement.ranks is None for row in standings.rows):
        return text + "A single target says nothing about other targets, so nothing was tested."
    pairs = _count(standings.pairs, "pair")
    if not any(row.placement.difference for row in standings.rows):
        return text + f"{CONTROL} has no result here. Tested against each other: {pairs}."
    text += f"Tested against {CONTROL}: {_count(standings.tests, 'method')}."
    if standings.pairs:
        text += f" Tested against each other, among those above it: {pairs}."
    if standings.detectable is not None:
        smallest, strictest = standings.detectable
        text += (
            f" A true difference of {smallest:.2f} d_a from {CONTROL} is found with a probability of "
            f"80 % in a single test, and one of {strictest:.2f} at the strictest level of Holm's "
            "correction."
        )
    return text


def describe_standing(row: StandingsRow) -> str:
    """Return a method's verdict, or what it lacks to be compared."""
    placement = row.placement
    if not placement.lacking:
        return placement.verdict or "–"
    if row.d_prime_intervals:
        return f"lacks {placement.lacking}"
    return "failed" if any(r.status == "failed" for r in row.results.values()) else "–"


def _count(number: int, singular: str, plural: str = "") -> str:
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"
