"""What submissions share, and a new one may use: frozen features, detectors, layers, training."""

from attnbench.adaptation.choosing import best, held_out, linear_detector, solve_penalised
from attnbench.adaptation.detectors import Detector, LinearDetector, log_odds, split_head
from attnbench.adaptation.features import (
    Pooled,
    batches,
    channels_last,
    encoder,
    frozen_outputs,
    quick_outputs,
)
from attnbench.adaptation.fitting import balanced_loss, fit, solve
from attnbench.adaptation.gauss_newton import gauss_newton
from attnbench.adaptation.layers import Gains, Shift, behind_filters, per_channel, replace
from attnbench.adaptation.stages import middle_stage, stages_with_maps, width

__all__ = [
    "Detector",
    "Gains",
    "LinearDetector",
    "Pooled",
    "Shift",
    "balanced_loss",
    "batches",
    "behind_filters",
    "best",
    "channels_last",
    "encoder",
    "fit",
    "frozen_outputs",
    "gauss_newton",
    "held_out",
    "linear_detector",
    "log_odds",
    "middle_stage",
    "per_channel",
    "quick_outputs",
    "replace",
    "solve",
    "solve_penalised",
    "split_head",
    "stages_with_maps",
    "width",
]
