"""The predictions of `shipped/figures-filter` for the drawn pictures that it filters.

Drawing and classifying these pictures takes most of a minute, so the package contains the predictions.
They also make the filtered set the same on every machine, however its kernels round.
`python -m pretraining.filter_predictions` makes the file. It must be run again when the network, the
figures or their number change; a test compares.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from attnbench.backbones import fingerprint
from attnbench.backbones.backbone import Backbone
from attnbench.stimuli.sources import Source

NETWORK = "shipped/figures-filter"
SPLIT: Literal["filter"] = "filter"
FILE = Path(__file__).with_name("figures_filter_predictions.npz")


def shipped_predictions(source: Source, network: Backbone) -> NDArray[np.float32] | None:
    """Return a network's predictions for the pictures of a source, if they are shipped.

    Returns:
        float32 `[N, 2]`, the most probable label of each picture and its probability, which is
        rounded to float16; or None.
    """
    if source.name != f"figures-{SPLIT}" or network.name != NETWORK:
        return None
    with np.load(FILE) as stored:
        if str(stored["fingerprint"]) != fingerprint(network):
            return None
        columns = [stored[name].astype(np.float32) for name in ("labels", "probabilities")]
    predictions = np.stack(columns, axis=1)
    return predictions if len(predictions) == len(source.labels) else None
