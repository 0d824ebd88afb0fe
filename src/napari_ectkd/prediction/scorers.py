"""From the voxels of a part of a tomogram to the logits of each scored position."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Protocol

import torch

from napari_ectkd.dataset.normalize import normalize_each
from napari_ectkd.devices.memory import if_it_fits
from napari_ectkd.errors import ConfigError
from napari_ectkd.models.folding import folded
from napari_ectkd.models.inference import half_of, to_device, to_volumes
from napari_ectkd.models.sweepable import Sweepable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from napari_ectkd.models.checkpoint import CheckpointInfo

PATCH_STRIDE = 4
"""Voxels between patches where nobody says otherwise: as the sweepable students."""


class Scorer(Protocol):
    """Scores every position of a part of the tomogram.

    Attributes
    ----------
    stride
        Voxels from one position to the next.
    window_px
        Voxels along each axis that one position depends on.
    """

    stride: int
    window_px: int

    def __call__(self, voxels: NDArray[np.float32]) -> Tensor:
        """Return float32 logits `(k, z, y, x)` of all windows in normalized voxels."""
        ...


class SweepScorer:
    """A network without padding, run once over all voxels.

    Parameters
    ----------
    model
        Sweepable; a copy with folded batch normalization is used.
    stride
        A multiple of the network's own, or a divisor of it: then several sweeps, each
        shifted by some voxels, interlock.
    device, dtype
        Where, and in which type autocast computes (None: float32).

    Raises
    ------
    ConfigError
        If the stride is neither.
    """

    def __init__(
        self,
        model: nn.Module,
        stride: int | None,
        device: torch.device,
        dtype: torch.dtype | None,
    ) -> None:
        if not isinstance(model, Sweepable):
            raise TypeError("not a sweepable network")
        own = model.stride_px
        self.stride = stride or own
        self.window_px = model.window_px
        if self.stride % own and own % self.stride:
            fitting = [n for n in range(1, own + 1) if own % n == 0]
            raise ConfigError(
                f"this network puts out a score every {own} voxels; a stride is a "
                f"multiple of that, or {', '.join(map(str, fitting))}, not {stride}"
            )
        self._own = own
        self._model = to_device(folded(model), device)
        self._device, self._dtype = device, dtype

    def __call__(self, voxels: NDArray[np.float32]) -> Tensor:
        """Return float32 logits `(k, z, y, x)` of all windows in normalized voxels."""
        volumes = to_volumes(voxels[None], self._device)
        if self.stride >= self._own:
            step = self.stride // self._own
            return self._score(volumes)[:, ::step, ::step, ::step]
        step = self._own // self.stride
        shape = [(n - self.window_px) // self.stride + 1 for n in voxels.shape]
        joined: Tensor | None = None
        for z, y, x in product(*(range(min(step, n)) for n in shape)):
            shifted = volumes[
                ..., z * self.stride :, y * self.stride :, x * self.stride :
            ]
            part = self._score(shifted)
            if joined is None:
                joined = part.new_empty(len(part), *shape)
            joined[:, z::step, y::step, x::step] = part
        assert joined is not None
        return joined

    def _score(self, volumes: Tensor) -> Tensor:
        kind = self._device.type
        with (
            torch.inference_mode(),
            torch.autocast(kind, dtype=self._dtype, enabled=self._dtype is not None),
        ):
            return self._model.score(volumes)[0].float()  # type: ignore[operator, no-any-return]


class PatchScorer:
    """Any network, on one box after the other.

    Parameters
    ----------
    model
        From `(b, 1, box, box, box)` to logits `(b, k)`.
    info
        Its box, and whether each box is normalized by itself.
    stride
        Voxels from one box to the next.
    device, dtype
        Where, and in which type autocast computes (None: float32).
    batch_size
        Boxes in one step.
    """

    def __init__(
        self,
        model: nn.Module,
        info: CheckpointInfo,
        stride: int | None,
        device: torch.device,
        dtype: torch.dtype | None,
        batch_size: int,
    ) -> None:
        self.stride = stride or PATCH_STRIDE
        self.window_px = info.box
        self._is_each = info.normalization.mode == "subtomogram"
        self._model = to_device(folded(model), device)
        self._device, self._dtype, self._batch = device, dtype, batch_size

    def __call__(self, voxels: NDArray[np.float32]) -> Tensor:
        """Return logits `(k, z, y, x)`, float32, of all boxes in normalized voxels."""
        boxes = torch.from_numpy(voxels)
        for axis in range(3):
            boxes = boxes.unfold(axis, self.window_px, self.stride)
        shape = boxes.shape[:3]
        places = torch.cartesian_prod(*(torch.arange(n) for n in shape))
        parts: list[Tensor] = []
        done = 0
        while done < len(places):
            batch = places[done : done + self._batch]
            patches = boxes[tuple(batch.T)].numpy()
            if self._is_each:
                patches = normalize_each(patches)
            scores = if_it_fits(self._device, partial(self._score, patches))
            if scores is None:
                # Smaller tiles would not help: they hold more boxes than a batch.
                self._batch = half_of(len(batch))
                continue
            parts.append(scores)
            done += len(batch)
        return torch.cat(parts).T.reshape(-1, *shape)

    def _score(self, patches: NDArray[np.float32]) -> Tensor:
        kind = self._device.type
        with (
            torch.inference_mode(),
            torch.autocast(kind, dtype=self._dtype, enabled=self._dtype is not None),
        ):
            return self._model(to_volumes(patches, self._device)).float()  # type: ignore[no-any-return]
