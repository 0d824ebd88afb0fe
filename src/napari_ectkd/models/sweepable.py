"""Networks that can be swept over a whole tomogram and give what they give on crops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class Sweepable(Protocol):
    """A network without padding: each of its outputs depends on its window alone.

    Attributes
    ----------
    stride_px
        Voxels from one output to the next, along each axis.
    window_px
        Voxels along each axis that one output depends on; odd.
    """

    stride_px: int
    window_px: int

    def score(self, volumes: Tensor) -> Tensor:
        """Return logits `(b, k, z, y, x)` of `(b, 1, Z, Y, X)`.

        Output i is that of the window centered on voxel `stride_px` i + `window_px`//2.
        What the network says of a box is the output of the window around its center.
        """
        ...


def central_window(volumes: Tensor, window_px: int) -> Tensor:
    """Return the window around the center, n//2, of `(b, 1, n, n, n)` volumes."""
    start = volumes.shape[-1] // 2 - window_px // 2
    inside = slice(start, start + window_px)
    return volumes[..., inside, inside, inside]
