"""Students: the paper's three, and our compact one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from napari_ectkd.models.blocks import PlainBlock, WindowMean, conv_norm
from napari_ectkd.models.sweepable import central_window

if TYPE_CHECKING:
    from torch import Tensor

LOCAL_PX = 23
"""Voxels along each axis that the compact student's first four convolutions see."""


def _paper_student(
    n_classes: int, box_px: int, widths: tuple[int, int, int]
) -> nn.Sequential:
    """Return a student of Guo et al. 2018: three blocks that pool by 3."""
    first, second, third = widths
    edge = box_px // 27
    return nn.Sequential(
        PlainBlock(1, first, 3),
        PlainBlock(first, second, 3),
        PlainBlock(second, third, 3),
        nn.Flatten(),
        nn.Linear(third * edge**3, 1024),
        nn.ReLU(),
        nn.Linear(1024, n_classes),
    )


def student1(n_classes: int, box_px: int) -> nn.Sequential:
    """Return the paper's student 1, arXiv:1801.10597."""
    return _paper_student(n_classes, box_px, (32, 64, 128))


def student2(n_classes: int, box_px: int) -> nn.Sequential:
    """Return the paper's student 2, arXiv:1801.10597."""
    return _paper_student(n_classes, box_px, (32, 64, 64))


def student3(n_classes: int, box_px: int) -> nn.Sequential:
    """Return the paper's student 3, arXiv:1801.10597."""
    return _paper_student(n_classes, box_px, (16, 32, 32))


class CompactStudent(nn.Module):
    """A network without padding, two strides of 2, and a look at the whole window.

    Without padding each output depends on its own window alone, so that the same
    weights, run over a whole tomogram, give every fourth voxel exactly the scores of
    the subtomogram cropped there. The first layers, where the voxels are many, are
    narrow: that is where the paper's students spend their arithmetic. The last
    convolution is spread over the window, so that what the network says of a particle
    is a nonlinear function of all of it: with 20 labels a class this was three points
    better than an average of what the layer before it sees.

    Parameters
    ----------
    n_classes
        Number of classes.
    box_px
        Voxels along each axis; decides how far the last convolution reaches.
    widths
        Channels of the four convolutions and of the last one.

    Attributes
    ----------
    stride_px
        Voxels from one output of `score` to the next.
    window_px
        Voxels along each axis that one output depends on: odd, the largest window that
        fits in the box around its center, n//2.
    """

    stride_px = 4

    def __init__(
        self, n_classes: int, box_px: int, widths: tuple[int, int, int, int, int]
    ) -> None:
        super().__init__()
        a, b, c, d, e = widths
        edge = (box_px - LOCAL_PX) // self.stride_px + 1
        self.window_px = LOCAL_PX + self.stride_px * (edge - 1)
        self.features = nn.Sequential(
            conv_norm(1, a, stride=2, padding=0),
            nn.ReLU(),
            conv_norm(a, b, stride=2, padding=0),
            nn.ReLU(),
            conv_norm(b, c, padding=0),
            nn.ReLU(),
            conv_norm(c, d, padding=0),
            nn.ReLU(),
            *_whole_window(d, e, edge, self.stride_px),
        )
        self.head = nn.Conv3d(e, n_classes, 1)

    def score(self, volumes: Tensor) -> Tensor:
        """Return logits `(b, n_classes, z, y, x)`, one for each window that fits.

        Output i is that of the window centered on voxel `stride_px` i + `window_px`//2.
        """
        logits: Tensor = self.head(self.features(volumes))
        return logits

    def forward(self, volumes: Tensor) -> Tensor:
        """Return logits `(b, n_classes)` of `(b, 1, n, n, n)`."""
        return self.score(central_window(volumes, self.window_px)).flatten(1)


def _whole_window(n_in: int, n_out: int, edge: int, stride_px: int) -> list[nn.Module]:
    """Return layers from `edge`³ samples to one: a convolution spread over them all.

    Its three taps an axis lie so far apart that they reach both ends; where that would
    leave voxels between them that no tap sees, samples are averaged first.
    """
    if edge == 1:
        return [*conv_norm(n_in, n_out, kernel=1, padding=0), nn.ReLU()]
    mean = 1 if edge % 2 else 2
    while stride_px * (edge - mean) // 2 > LOCAL_PX + stride_px * (mean - 1):
        mean += 2
    layers: list[nn.Module] = [WindowMean(mean)] if mean > 1 else []
    if edge > mean:
        spread = conv_norm(n_in, n_out, padding=0, dilation=(edge - mean) // 2)
    else:
        spread = conv_norm(n_in, n_out, kernel=1, padding=0)
    return [*layers, *spread, nn.ReLU()]


def compact_nano(n_classes: int, box_px: int) -> CompactStudent:
    """Return the smallest student: half the channels where most of the work is."""
    return CompactStudent(n_classes, box_px, (6, 12, 16, 16, 32))


def compact(n_classes: int, box_px: int) -> CompactStudent:
    """Return the student that we distill by default."""
    return CompactStudent(n_classes, box_px, (8, 16, 32, 32, 32))


def compact_wide(n_classes: int, box_px: int) -> CompactStudent:
    """Return the largest student: twice as many channels."""
    return CompactStudent(n_classes, box_px, (16, 32, 64, 64, 64))
