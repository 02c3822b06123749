"""Sentences about standings that the page and the site share, as plain text."""

from __future__ import annotations

from attnbench.leaderboard.comparable import CONTROL
from attnbench.leaderboard.standings import Standings, StandingsRow

# The method that the benchmark was made for; its result is always named.
FEATURED = "attention"


def summarise(standings: Standings) -> str:
    """Return how many methods beat the control, the best, the cheapest, and where `attention` is."""
    if not standings.tests:
        return ""
    above = [row for row in standings.rows if row.placement.verdict == "above"]
    named: list[StandingsRow] = []
    if not above:
        text = (
            f"None of {_count(standings.tests, 'method')} is shown to detect better than {CONTROL}, "
            "the control, which only moves the threshold."
        )
    else:
        text = (
            f"{len(above)} of {_count(standings.tests, 'method')} detect better than {CONTROL}, the "
            f"control, which only moves the threshold. The best is {_result(above[0])}."
        )
        named.append(above[0])
        timed = [(row.costs.times.passes, row) for row in above if row.costs]
        known = [(passes, row) for passes, row in timed if passes is not None]
        if known:
            _, cheapest = min(known, key=lambda pair: pair[0])
            if cheapest is not above[0]:
                text += f" The cheapest of them is {_result(cheapest)}."
                named.append(cheapest)
    for row in standings.rows:
        is_new = all(row is not other for other in named)
        if row.method.submission == FEATURED and is_new and not row.placement.lacking:
            standing = {"above": "is above", "below": "is below"}.get(
                row.placement.verdict, "is not distinguished from"
            )
            text += f" {FEATURED} {standing} the control: {_result(row, named=False)}."
    return text


def _result(row: StandingsRow, named: bool = True) -> str:
    """Return a method's difference from the control, with its interval, and its cost."""
    difference = row.placement.difference
    parts = [row.method.submission] if named else []
    if difference is not None:
        low, high = difference.interval or (difference.value, difference.value)
        parts.append(f"{difference.value:+.2f} d_a [{low:+.2f}, {high:+.2f}]".replace("-", "−"))
    if row.costs is not None:
        cost = f"{row.costs.parameters[1]:,} parameters"
        if row.costs.times.passes is not None:
            cost += f" and the time of {row.costs.times.passes:.2g} passes"
        parts.append(f"with {cost}")
    return " ".join(parts) if not named else f"{parts[0]}: {' '.join(parts[1:])}"


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
