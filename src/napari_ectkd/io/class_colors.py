"""Colors of classes: bright on a gray tomogram, the same in every file and window."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

from napari_ectkd.io.picks import NONE, UNKNOWN, UNLABELED

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

COLORS = (
    "#ff5c5c",
    "#4fc3f7",
    "#ffd54f",
    "#7bd88f",
    "#c58af9",
    "#ff9440",
    "#3fd0c0",
    "#f06fb1",
    "#b5e048",
    "#8c9eff",
    "#e0b080",
    "#a7e3ff",
)
"""The first classes' colors, in order."""

SPECIAL = {NONE: "#9a9a9a", UNKNOWN: "#ffffff", UNLABELED: "#fff3b0"}
"""Not classes of particles, and not to be taken for one."""


def next_color(taken: Collection[str]) -> str:
    """Return a color `#rrggbb` that none of the taken ones is."""
    for color in COLORS:
        if color not in taken:
            return color
    hue = (len(taken) * 0.618034) % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.55, 1.0)
    return "#" + "".join(f"{round(255 * c):02x}" for c in (red, green, blue))


def colors_of(classes: Sequence[str]) -> dict[str, str]:
    """Return a color `#rrggbb` for each class name, in order."""
    colors: dict[str, str] = {}
    for name in classes:
        colors[name] = SPECIAL.get(name) or next_color(colors.values())
    return colors
