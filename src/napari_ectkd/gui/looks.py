"""How the picks of all tomograms look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_ectkd.gui.overlay import Overlay
    from napari_ectkd.gui.palette import Palette


@dataclass(frozen=True)
class Looks:
    """What a layer of picks is painted by.

    Attributes
    ----------
    palette
        Colors of the classes.
    hidden
        Classes that are not shown.
    diameter
        Å, of picks whose class has none.
    overlay
        Thresholds, region, masks, diameters.
    """

    palette: Palette
    hidden: frozenset[str]
    diameter: float
    overlay: Overlay
