"""What submissions share, and a new one may use: frozen features, detectors, a class-balanced fit."""

from attnbench.adaptation.detectors import Detector, LinearDetector, log_odds, replace
from attnbench.adaptation.features import (
    Pooled,
    batches,
    channels_last,
    encoder,
    frozen_outputs,
    stages_with_maps,
)
from attnbench.adaptation.fitting import balanced_loss, best, fit, held_out

__all__ = [
    "Detector",
    "LinearDetector",
    "Pooled",
    "balanced_loss",
    "batches",
    "best",
    "channels_last",
    "encoder",
    "fit",
    "frozen_outputs",
    "held_out",
    "log_odds",
    "replace",
    "stages_with_maps",
]
