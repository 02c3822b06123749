"""Networks of torchvision and timm, each imported only when it is needed."""

from __future__ import annotations

from attnbench.backbones.network import Network
from attnbench.errors import AttnbenchError


def library_network(name: str, outputs: int | None = None) -> Network:
    """Return a network of torchvision or timm with weights initialised with seed 0.

    Args:
        name: `torchvision/NAME` or `timm/NAME`.
        outputs: the number of outputs; by default that of the published weights.

    Raises:
        AttnbenchError: if the library has no such network, or timm is not installed.
    """
    family, _, network = name.partition("/")
    # Importing torchvision takes seconds, and timm is an optional dependency.
    if family == "torchvision":
        from attnbench.backbones.torchvision_models import torchvision_network

        return torchvision_network(network, outputs)
    try:
        from attnbench.backbones.timm_models import timm_network
    except ModuleNotFoundError as missing:
        raise AttnbenchError(
            f"backbone {name} needs the package {missing.name}; "
            "install it with pip install 'attnbench[timm]'"
        ) from None
    return timm_network(network, outputs)
