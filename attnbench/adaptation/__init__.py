"""Building blocks for submissions: frozen features, detectors, layers, training, model selection.

The shipped submissions share them, and other submissions may use them as well.
"""

from attnbench.adaptation.detectors import (
    Detector,
    LinearDetector,
    log_odds,
    split_trainable_head,
    target_output,
)
from attnbench.adaptation.features import (
    GlobalAveragePool,
    Precision,
    batches,
    channels_last,
    frozen_features,
    pooled_encoder,
)
from attnbench.adaptation.fine_tuning import fine_tune, fit_readout
from attnbench.adaptation.fitting import balanced_loss, fit_adam, fit_lbfgs, separation
from attnbench.adaptation.gauss_newton import fit_gauss_newton
from attnbench.adaptation.layers import (
    Gains,
    OutputBias,
    broadcast_channels,
    insert_after_convolutions,
    replace_modules,
)
from attnbench.adaptation.model_selection import (
    fit_lbfgs_cv,
    fit_linear_detector,
    select_by_validation,
    validation_split,
)
from attnbench.adaptation.stages import middle_stage, num_channels, stages_with_maps

__all__ = [
    "Detector",
    "Gains",
    "GlobalAveragePool",
    "LinearDetector",
    "OutputBias",
    "Precision",
    "balanced_loss",
    "batches",
    "broadcast_channels",
    "channels_last",
    "fine_tune",
    "fit_adam",
    "fit_gauss_newton",
    "fit_lbfgs",
    "fit_lbfgs_cv",
    "fit_linear_detector",
    "fit_readout",
    "frozen_features",
    "insert_after_convolutions",
    "log_odds",
    "middle_stage",
    "num_channels",
    "pooled_encoder",
    "replace_modules",
    "select_by_validation",
    "separation",
    "split_trainable_head",
    "stages_with_maps",
    "target_output",
    "validation_split",
]
