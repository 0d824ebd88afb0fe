"""Teachers: the paper's DSRF3D-v2, and residual networks of ours."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from torch import nn

from napari_ectkd.models.blocks import PlainBlock, ResidualBlock, conv_norm

if TYPE_CHECKING:
    from torch import Tensor


def dsrf3d_v2(n_classes: int, box_px: int, dropout: float = 0.5) -> nn.Sequential:
    """Return DSRF3D-v2, the teacher of Guo et al. 2018 (arXiv:1801.10597).

    The paper trains with dropout 0.7 and SGD (`dsrf3d_v2_published`); with AdamW and a
    one-cycle schedule 0.5 starts faster.
    """
    edge = box_px // 8
    return nn.Sequential(
        PlainBlock(1, 32, 2),
        PlainBlock(32, 64, 2),
        PlainBlock(64, 128, 2),
        nn.Flatten(),
        nn.Linear(128 * edge**3, 1024),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(1024, 1024),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(1024, n_classes),
    )


def dsrf3d_v2_published(n_classes: int, box_px: int) -> nn.Sequential:
    """Return DSRF3D-v2 with the dropout of its paper."""
    return dsrf3d_v2(n_classes, box_px, dropout=0.7)


class ResidualNetwork(nn.Module):
    """Convolutions of stride 2, each followed by a residual block where voxels are few.

    Residual blocks stand at a quarter of the resolution and below: above it they would
    cost most of the arithmetic and see the least context.

    Parameters
    ----------
    n_classes
        Number of classes.
    stem_stride
        1 looks at every voxel, 2 costs an eighth.
    widths
        Channels of the stem and of each halving of the resolution after it.
    """

    def __init__(
        self, n_classes: int, *, stem_stride: int, widths: tuple[int, ...]
    ) -> None:
        super().__init__()
        layers = [conv_norm(1, widths[0], stride=stem_stride), nn.ReLU()]
        reduction = stem_stride
        for n_in, n_out in pairwise(widths):
            layers += [conv_norm(n_in, n_out, stride=2), nn.ReLU()]
            reduction *= 2
            if reduction >= 4:
                layers.append(ResidualBlock(n_out))
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(widths[-1], n_classes)
        )

    def forward(self, volumes: Tensor) -> Tensor:
        """Return logits `(b, n_classes)` of `(b, 1, n, n, n)`."""
        logits: Tensor = self.head(self.features(volumes))
        return logits


def residual_small(n_classes: int, box_px: int) -> ResidualNetwork:
    """Return the small teacher: 55 M multiply-accumulates at box 32."""
    return ResidualNetwork(n_classes, stem_stride=2, widths=(16, 32, 64))


def residual(n_classes: int, box_px: int) -> ResidualNetwork:
    """Return the large teacher: 510 M multiply-accumulates at box 32."""
    return ResidualNetwork(n_classes, stem_stride=1, widths=(24, 48, 96, 96))
