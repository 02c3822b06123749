"""Which methods order the images as the control does, and so do little but move its threshold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

from attnbench.leaderboard.comparable import CONTROL
from attnbench.leaderboard.entries import Entry, group_entries
from attnbench.leaderboard.pooling import Method, Setting
from attnbench.leaderboard.score_summary import rank_correlation

# By track, method and setting.
OrderCorrelations = Mapping[str, Mapping[Method, Mapping[Setting, float]]]


def order_correlations(entries: Sequence[Entry]) -> OrderCorrelations:
    """Return Spearman's rank correlation of each method's scores with those of `bias_only`.

    It is the mean over records with the same test images. A setting is left out if there are none.
    """
    correlations: dict[str, dict[Method, dict[Setting, float]]] = {}
    for track, by_setting in group_entries(entries).items():
        of_track = correlations.setdefault(track, defaultdict(dict))
        for setting, by_method in by_setting.items():
            controls = {
                entry.scores.images: entry.scores
                for method, of_method in by_method.items()
                if method.submission == CONTROL
                for entry in of_method
                if entry.scores is not None
            }
            for method, of_method in by_method.items():
                found = [
                    rank_correlation(entry.scores, controls[entry.scores.images])
                    for entry in of_method
                    if entry.scores is not None and entry.scores.images in controls
                ]
                if found:
                    of_track[method][setting] = fmean(found)
    return correlations
