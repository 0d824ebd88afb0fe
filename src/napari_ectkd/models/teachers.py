"""Teachers: the paper's DSRF3D-v2, and residual networks of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from napari_ectkd.models.blocks import PlainBlock, ResidualBlock, conv_norm

if TYPE_CHECKING:
    from torch import Tensor


def dsrf3d_v2(n_classes: int, box_px: int, dropout: float = 0.5) -> nn.Sequential:
    """Return DSRF3D-v2, the teacher of Guo et al. 2018 (arXiv:1801.10597).

    The paper trains with dropout 0.7 and SGD; with AdamW and a one-cycle schedule 0.5
    starts faster and ends better.
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


class ResidualNetwork(nn.Module):
    """A stem, two residual stages at half and quarter of its resolution, one average.

    Parameters
    ----------
    n_classes
        Number of classes.
    widths
        Channels of the stem and of the two stages.
    stem_stride
        1 looks at every voxel, 2 costs an eighth.
    dropout
        Before the last layer.
    """

    def __init__(
        self,
        n_classes: int,
        widths: tuple[int, int, int],
        stem_stride: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        stem, middle, last = widths
        self.features = nn.Sequential(
            conv_norm(1, stem, stride=stem_stride),
            nn.ReLU(),
            conv_norm(stem, middle, stride=2),
            nn.ReLU(),
            ResidualBlock(middle),
            conv_norm(middle, last, stride=2),
            nn.ReLU(),
            ResidualBlock(last),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
        )
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, n_classes))

    def forward(self, volumes: Tensor) -> Tensor:
        """Return logits `(b, n_classes)` of `(b, 1, n, n, n)`."""
        logits: Tensor = self.head(self.features(volumes))
        return logits


def residual_small(n_classes: int, box_px: int) -> ResidualNetwork:
    """Return the small teacher: 55 M multiply-accumulates at box 32."""
    return ResidualNetwork(n_classes, (16, 32, 64), stem_stride=2)


def residual(n_classes: int, box_px: int) -> ResidualNetwork:
    """Return the large teacher: about 430 M multiply-accumulates at box 32."""
    return ResidualNetwork(n_classes, (24, 48, 96), stem_stride=1)
