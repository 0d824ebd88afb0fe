"""Networks with their batch normalization folded into the convolutions before it."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_Network = TypeVar("_Network", bound=nn.Module)


def folded(model: _Network) -> _Network:
    """Return a copy in eval mode whose batch normalizations are part of convolutions.

    In eval mode a batch normalization is an affine map of each channel, so that it can
    be worked into weights and bias of the convolution before it. The result is the same
    up to rounding, with one pass over each activation less. Only where the two follow
    each other in a `Sequential` is that known; others stay as they are.

    Parameters
    ----------
    model
        Any network; not changed.
    """
    copied = copy.deepcopy(model).eval()
    for block in copied.modules():
        if not isinstance(block, nn.Sequential):
            continue
        for index in range(len(block) - 1):
            conv, norm = block[index], block[index + 1]
            if isinstance(conv, nn.Conv3d) and isinstance(norm, nn.BatchNorm3d):
                block[index] = fuse_conv_bn_eval(conv, norm)
                block[index + 1] = nn.Identity()
    return copied
