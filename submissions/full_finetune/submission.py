"""Full fine-tuning: every parameter of the network is trained from its pretrained value."""

from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import Detector, fine_tune


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    learning_rate: float,
    new_target_rate: float,
    choose_rate: bool,
    epochs: int,
    stop_loss: float,
) -> nn.Module:
    backbone.requires_grad_(True)
    detector = Detector(backbone, backbone.target, pos[:1])
    fine_tune(
        detector,
        pos,
        neg,
        learning_rate=learning_rate,
        new_target_rate=new_target_rate,
        choose_rate=choose_rate,
        epochs=epochs,
        stop_loss=stop_loss,
    )
    return detector
