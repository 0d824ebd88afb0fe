"""Class names and their colors: bright on a gray tomogram, and never dealt out anew."""

from __future__ import annotations

import colorsys

from napari_ectkd.io.picks import NONE, UNKNOWN, UNLABELED

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


class Palette:
    """A color for each class; the first class asked for gets the first color.

    Parameters
    ----------
    colors
        Colors that are settled, `#rrggbb` by class name.
    """

    def __init__(self, colors: dict[str, str] | None = None) -> None:
        self._colors = dict(colors or {})

    def color(self, name: str) -> str:
        """Return the color of a class, choosing one if it is new."""
        if name in SPECIAL:
            return SPECIAL[name]
        if name not in self._colors:
            self._colors[name] = self._next()
        return self._colors[name]

    def set_color(self, name: str, color: str) -> None:
        """Settle the color of a class, `#rrggbb`."""
        self._colors[name] = color

    def rename(self, old: str, new: str) -> None:
        """Let a class keep its color under another name."""
        self._colors[new] = self._colors.pop(old, None) or self._next()

    def as_dict(self) -> dict[str, str]:
        """Return the settled colors by class."""
        return dict(self._colors)

    def _next(self) -> str:
        taken = set(self._colors.values())
        for color in COLORS:
            if color not in taken:
                return color
        hue = (len(self._colors) * 0.618034) % 1
        red, green, blue = colorsys.hsv_to_rgb(hue, 0.55, 1.0)
        return "#" + "".join(f"{round(255 * c):02x}" for c in (red, green, blue))
