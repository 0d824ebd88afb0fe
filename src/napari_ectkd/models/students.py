"""Students: the paper's three, and our compact one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from napari_ectkd.models.blocks import PlainBlock, WindowMean, conv_norm
from napari_ectkd.models.sweepable import central_window

if TYPE_CHECKING:
    from torch import Tensor


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
    """A network without padding, two strides of 2, and an average over what is left.

    Without padding each output depends on its own window alone, so that the same
    weights, run over a whole tomogram, give every fourth voxel exactly the scores of
    the subtomogram cropped there. The first layers, where the voxels are many, are
    narrow: that is where the paper's students spend their arithmetic.

    Parameters
    ----------
    n_classes
        Number of classes.
    box_px
        Voxels along each axis; decides how far the last average reaches.
    widths
        Channels of the four convolutions.

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
        self,
        n_classes: int,
        box_px: int,
        widths: tuple[int, int, int, int] = (8, 16, 32, 32),
    ) -> None:
        super().__init__()
        a, b, c, d = widths
        self.features = nn.Sequential(
            conv_norm(1, a, stride=2, padding=0),
            nn.ReLU(),
            conv_norm(a, b, stride=2, padding=0),
            nn.ReLU(),
            conv_norm(b, c, padding=0),
            nn.ReLU(),
            conv_norm(c, d, padding=0),
            nn.ReLU(),
        )
        # The convolutions alone see 23 voxels, each step of the average 4 more.
        edge = (box_px - 23) // self.stride_px + 1
        self.window_px = 23 + self.stride_px * (edge - 1)
        self.average = WindowMean(edge)
        self.head = nn.Conv3d(d, n_classes, 1)

    def score(self, volumes: Tensor) -> Tensor:
        """Return logits `(b, n_classes, z, y, x)`, one for each window that fits.

        Output i is that of the window centered on voxel `stride_px` i + `window_px`//2.
        """
        # The head is linear, so that it may come first: it leaves less to average.
        logits: Tensor = self.average(self.head(self.features(volumes)))
        return logits

    def forward(self, volumes: Tensor) -> Tensor:
        """Return logits `(b, n_classes)` of `(b, 1, n, n, n)`."""
        return self.score(central_window(volumes, self.window_px)).flatten(1)


def compact(n_classes: int, box_px: int) -> CompactStudent:
    """Return the compact student."""
    return CompactStudent(n_classes, box_px)
