"""The last layer of a network: where each class has one number added to its logit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_ectkd.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def add_to_logits(model: nn.Module, offsets: NDArray) -> None:
    """Add an offset to the logit of each class, for good.

    Parameters
    ----------
    model
        Whose last layer is linear or a convolution, with a bias.
    offsets
        `(k,)` one for each class.

    Raises
    ------
    ConfigError
        If it has no such layer.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv3d)]
    if not layers or layers[-1].bias is None or len(layers[-1].bias) != len(offsets):
        raise ConfigError(
            "this network has no last layer with a bias for each class; leave class "
            "offsets out (--no-class-offsets)"
        )
    bias = layers[-1].bias
    with torch.no_grad():
        bias += torch.as_tensor(offsets, dtype=bias.dtype, device=bias.device)
