"""`python -m pretraining.filter_predictions`: write the predictions that attnbench ships."""

from __future__ import annotations

import numpy as np

from attnbench.backbones import fingerprint, load
from attnbench.stimuli.filtration import predict
from attnbench.stimuli.shipped_predictions import FILE, NETWORK, SPLIT
from attnbench.stimuli.sources import open_source, prepare
from attnbench.tasks import FiguresSource


def main() -> None:
    """Predict the labels of all pictures that the filter network filters."""
    network = load(NETWORK)
    source = open_source(FiguresSource(kind="figures", split=SPLIT), None)
    predictions = predict(prepare(source, network.preprocessing), network)
    np.savez_compressed(
        FILE,
        labels=predictions[:, 0].astype(np.uint8),
        probabilities=predictions[:, 1].astype(np.float16),
        fingerprint=np.array(fingerprint(network)),
    )


if __name__ == "__main__":
    main()
