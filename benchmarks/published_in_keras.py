"""Goal-directed attention in Keras, as it was published, for a comparison with the shipped method.

Luo, Roads & Love (2021) inserted a layer with one non-negative gain per channel into VGG-16 and
trained it with Adam, running the whole network in each step. Here the objective is that of the
shipped method.
"""

from __future__ import annotations

# TensorFlow contains its own LLVM. If PyTorch's is loaded after it, the process crashes.
import torch._dynamo  # isort: skip
import keras
import torch
from keras import layers, ops
from torch import Tensor, nn

from attnbench.adaptation import Gains
from attnbench.backbones.backbone import Backbone


class Attention(keras.layers.Layer):
    """A non-negative gain for each channel, one at first."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.gains = self.add_weight(
            shape=(shape[-1],), initializer="ones", constraint=keras.constraints.NonNeg()
        )

    def call(self, maps: object) -> object:
        return maps * self.gains


class LogOdds(keras.layers.Layer):
    """Logits to the log-odds of the target against all other classes."""

    def __init__(self, target: int) -> None:
        super().__init__()
        self.target = target

    def call(self, logits: Tensor) -> object:
        other_logits = ops.concatenate(
            [logits[:, : self.target], logits[:, self.target + 1 :]], axis=1
        )
        return logits[:, self.target] - ops.logsumexp(other_logits, axis=1)


class KerasAttention:
    """A backbone in Keras with a trainable attention layer in the middle.

    Args:
        backbone: consists of convolutions, ReLU, max-pools and linear layers, as VGG does.
        after: the stage in front of the attention layer.
        target: the index of the class.
    """

    def __init__(self, backbone: Backbone, after: str, target: int) -> None:
        size = backbone.preprocessing.size
        maps = inputs = keras.Input((size, size, 3))
        for module in _leaves(backbone.upto(after)):
            maps = _apply_in_keras(module, maps)
        self._attention = Attention()
        maps = self._attention(maps)
        for module in _leaves(backbone.after(after)):
            maps = _apply_in_keras(module, maps)
        self._model = keras.Model(inputs, LogOdds(target)(maps))
        for layer in self._model.layers:
            layer.trainable = layer is self._attention

    def fit(
        self, pos: Tensor, neg: Tensor, *, learning_rate: float, epochs: int, batch_size: int
    ) -> Gains:
        """Train on images `[n, 3, h, w]` of both classes, and return the gains for PyTorch."""
        self._model.compile(
            optimizer=keras.optimizers.Adam(learning_rate),
            loss=lambda signs, scores: ops.mean(
                ops.softplus(-ops.ravel(signs) * ops.ravel(scores))
            ),
        )
        images = torch.cat([pos, neg]).permute(0, 2, 3, 1).numpy()
        signs = torch.cat([torch.ones(len(pos), 1), -torch.ones(len(neg), 1)]).numpy()
        self._model.fit(images, signs, batch_size=batch_size, epochs=epochs, verbose=0)
        return Gains(torch.tensor(ops.convert_to_numpy(self._attention.gains)))


def _leaves(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if not list(module.children())]


def _apply_in_keras(module: nn.Module, maps: object) -> object:
    """Apply Keras layers that are equal to a PyTorch module to maps `[n, h, w, c]`."""
    match module:
        case nn.Conv2d(padding=(1, 1), stride=(1, 1)):
            layer = layers.Conv2D(module.out_channels, module.kernel_size, padding="same")
            outputs = layer(maps)
            layer.set_weights([module.weight.permute(2, 3, 1, 0).numpy(), module.bias.numpy()])
            return outputs
        case nn.Linear():
            layer = layers.Dense(module.out_features)
            outputs = layer(maps)
            layer.set_weights([module.weight.T.numpy(), module.bias.numpy()])
            return outputs
        case nn.ReLU():
            return layers.ReLU()(maps)
        case nn.MaxPool2d(kernel_size=2, stride=2):
            return layers.MaxPooling2D()(maps)
        case nn.AdaptiveAvgPool2d(output_size=1):
            return layers.GlobalAveragePooling2D(keepdims=True)(maps)
        case nn.AdaptiveAvgPool2d(output_size=size) if size == maps.shape[1:3]:
            return maps
        case nn.Flatten():
            # PyTorch flattens maps with the channels first.
            return layers.Flatten()(layers.Permute((3, 1, 2))(maps))
        case nn.Dropout():
            return maps
    raise NotImplementedError(f"there is no conversion of {module} to Keras")
