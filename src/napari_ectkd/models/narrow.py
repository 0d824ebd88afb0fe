"""Where bfloat16 goes wrong on a CPU.

The gradient of a padded convolution's weights with respect to a volume narrower than
its kernel reads memory that nobody wrote (measured with torch 2.13 and its oneDNN:
3×3×3 kernels on 1 or 2 voxels give another gradient each time, and NaN at times). The
networks come to such volumes where the box is small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


def has_narrow_convolution(model: nn.Module, box_px: int) -> bool:
    """Return whether a padded convolution sees a volume narrower than its kernel.

    Parameters
    ----------
    model
        On any device.
    box_px
        Voxels along each axis of what the network is given.
    """
    narrow = []

    def look(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(layer, nn.Conv3d):
            edges = zip(inputs[0].shape[2:], layer.kernel_size, strict=True)
            narrow.append(any(n < kernel for n, kernel in edges))

    hooks = [m.register_forward_pre_hook(look) for m in model.modules()]
    device = next(model.parameters()).device
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 1, box_px, box_px, box_px, device=device))
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return any(narrow)
