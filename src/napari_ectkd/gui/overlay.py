"""What of the picks is shown, and as what: thresholds, region, mask, diameters."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from scipy.special import expit, logit

from napari_ectkd.gui.class_codes import (
    UNKNOWN_CODE,
    UNLABELED_CODE,
    Named,
    class_codes,
)
from napari_ectkd.gui.remembered import remembered
from napari_ectkd.io.star import DIAMETER
from napari_ectkd.picking.blobs import SCORE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_ectkd.io.picks import Picks
    from napari_ectkd.io.tomogram import Tomogram
    from napari_ectkd.prediction.mask import Mask

T = TypeVar("T")
_ALMOST_SURE = 1e-7
"""What a confidence is kept away from 0 and 1, so that its log-odds are finite."""


@dataclass(frozen=True)
class Overlay:
    """How picks are shown; classes that are hidden are the class list's.

    Attributes
    ----------
    min_confidence
        Predictions below it are shown as unknown.
    cuts
        Least score by class, see `scores`; predictions below it are unknown too.
    diameters
        Å by class, as far as they are known.
    densities
        By class, the file of its density, which meshes are made of.
    has_meshes
        Whether particles are drawn in 3D as the surface of their density.
    region
        `(2, 3)` Å, lowest and highest position that is shown; None for everywhere.
    masks
        By tomogram, where picks are shown; without one, everywhere.
    is_faded
        Whether unsure predictions are drawn fainter.
    """

    min_confidence: float = 0.0
    cuts: Mapping[str, float] = field(default_factory=dict)
    diameters: Mapping[str, float] = field(default_factory=dict)
    densities: Mapping[str, Path] = field(default_factory=dict)
    has_meshes: bool = False
    region: NDArray[np.float64] | None = None
    masks: Mapping[str, Mask] = field(default_factory=dict)
    is_faded: bool = True

    def renamed(self, old: str, new: str) -> Overlay:
        """Return the same with another name, or none, of a class."""

        def change(values: Mapping[str, T]) -> dict[str, T]:
            return {
                new if name == old else name: value
                for name, value in values.items()
                if new or name != old
            }

        return replace(
            self,
            cuts=change(self.cuts),
            diameters=change(self.diameters),
            densities=change(self.densities),
        )


@remembered
def shown_class(picks: Picks, overlay: Overlay) -> Named:
    """Return what each pick is shown as: label, prediction, unknown or nothing."""
    codes = class_codes(picks)
    bare = shown_prediction(picks, overlay)
    return replace(
        bare, codes=np.where(codes.is_labeled, codes.label.codes, bare.codes)
    )


@remembered
def shown_prediction(picks: Picks, overlay: Overlay) -> Named:
    """Return what each pick would be shown as if it had no label."""
    predicted = class_codes(picks).prediction
    # A pick may carry a prediction without a number; it is taken at its word.
    is_unsure = picks.confidence < overlay.min_confidence
    if overlay.cuts:
        cut = predicted.each(lambda name: overlay.cuts.get(name, -np.inf))
        is_unsure |= scores(picks) < cut
    is_unsure &= predicted.codes != UNLABELED_CODE
    return replace(predicted, codes=np.where(is_unsure, UNKNOWN_CODE, predicted.codes))


@remembered
def scores(picks: Picks) -> NDArray[np.float64]:
    """Return the log-odds of each predicted class, nats; NaN without a number.

    Those that a sweep wrote are more exact than its confidence where that is nearly 1.
    They count only while they say the same: a pick may have been classified again.
    """
    found = logit(np.clip(picks.confidence, _ALMOST_SURE, 1 - _ALMOST_SURE))
    if SCORE in picks.foreign:
        written = picks.foreign[SCORE].to_numpy(dtype=np.float64, na_value=np.nan)
        agrees = np.abs(expit(written) - picks.confidence) < 1e-3
        found = np.where(agrees, written, found)
    return found


@remembered
def is_visible(
    picks: Picks,
    shown: Named,
    hidden: frozenset[str],
    overlay: Overlay,
    tomogram: Tomogram,
) -> NDArray[np.bool_]:
    """Return which picks of a tomogram are shown, by what they are shown as."""
    visible: NDArray[np.bool_] = ~shown.is_in(hidden)
    if overlay.region is not None:
        # By axis: comparing whole rows takes several times as long.
        for axis, (low, high) in enumerate(overlay.region.T):
            place = picks.positions[:, axis]
            visible &= (place >= low) & (place <= high)
    mask = overlay.masks.get(tomogram.name)
    if mask is not None and len(picks):
        # A pick may lie beyond the rim of the volume that it was found in.
        inside = np.clip(picks.positions / tomogram.voxel_size, 0, None)
        visible &= mask.is_inside(inside)
    return visible


def shown_diameters(
    picks: Picks, shown: Named, overlay: Overlay, default: float
) -> NDArray[np.float64]:
    """Return the diameter of each pick, Å: of its class, or as its sweep said."""
    found = np.full(len(picks), default)
    if DIAMETER in picks.foreign:
        written = picks.foreign[DIAMETER].to_numpy(dtype=np.float64, na_value=np.nan)
        # It is that of the predicted class, which a label may have put right.
        is_known = (written > 0) & (shown.codes == class_codes(picks).prediction.codes)
        found = np.where(is_known, written, found)
    if overlay.diameters:
        of_class = shown.each(lambda name: overlay.diameters.get(name, np.nan))
        found = np.where(np.isnan(of_class), found, of_class)
    return found


def opacity(picks: Picks, shown: Named, overlay: Overlay) -> NDArray[np.float64]:
    """Return how opaque each pick is drawn, 0.3 to 1: labels fully."""
    if not overlay.is_faded:
        return np.ones(len(picks))
    is_sure = class_codes(picks).is_labeled | (shown.codes == UNLABELED_CODE)
    is_sure |= np.isnan(picks.confidence)
    return np.where(is_sure, 1.0, 0.3 + 0.7 * picks.confidence)
