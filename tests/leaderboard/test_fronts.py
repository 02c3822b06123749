"""Who is on the Pareto front, and by how much."""

from __future__ import annotations

from dataclasses import replace

from attnbench.leaderboard.fronts import Bid, front
from attnbench.leaderboard.standings import Entrant


def bid(name: str, d_prime: float, parameters: int, passes: float) -> Bid:
    return Bid(Entrant(name, "a" * 64, "cpu"), d_prime, parameters, passes, "a processor")


def test_a_front_has_whom_none_dominates_and_by_how_much() -> None:
    bids = [
        bid("cheap", 1.0, 1, 5.0),
        bid("quick", 0.5, 900, 0.1),
        bid("best", 3.0, 50, 9.0),
        bid("dominated", 1.2, 50, 9.5),
        bid("between", 1.5, 50, 9.0),
    ]
    found = {lead.bid.entrant.submission: lead.margin for lead in front(bids)}
    # nobody has one parameter, or a tenth of a pass; `best` leads "between" by 1.5
    assert found == {"best": 1.5, "cheap": None, "quick": None}
    assert [lead.bid.d_prime for lead in front(bids)] == [3.0, 1.0, 0.5]
    # a margin is what it says: a little less is still on the front, a little more is not
    for lost, names in ((1.49, {"best", "cheap", "quick"}), (1.51, {"between", "cheap", "quick"})):
        worse = [replace(b, d_prime=b.d_prime - lost * (b is bids[2])) for b in bids]
        assert {lead.bid.entrant.submission for lead in front(worse)} == names
    assert front([]) == ()
