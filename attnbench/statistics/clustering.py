"""An order of detectors by the similarity of their errors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform


def clustered_order(kappa: NDArray[np.float64]) -> list[int]:
    """Return an order of m detectors in which those with similar errors are neighbours.

    It is the order of the leaves of average linkage on the distance 1 - kappa. Where kappa is
    undefined, the distance is 1.

    Args:
        kappa: `[m, m]`, symmetric.
    """
    if len(kappa) < 3:
        return list(range(len(kappa)))
    distances = 1 - np.nan_to_num(kappa, nan=0.0)
    np.fill_diagonal(distances, 0.0)
    tree = linkage(squareform(distances, checks=False), "average", optimal_ordering=True)
    return [int(number) for number in leaves_list(tree)]
