"""Class names and their colors: bright on a gray tomogram, and never dealt out anew."""

from __future__ import annotations

from napari_ectkd.io.class_colors import SPECIAL, next_color


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
            self._colors[name] = next_color(self._colors.values())
        return self._colors[name]

    def set_color(self, name: str, color: str) -> None:
        """Settle the color of a class, `#rrggbb`."""
        self._colors[name] = color

    def settle(self, colors: dict[str, str]) -> None:
        """Take colors, `#rrggbb` by class, for the classes that have none yet."""
        self._colors = {**colors, **self._colors}

    def rename(self, old: str, new: str) -> None:
        """Let a class keep its color under another name."""
        self._colors[new] = self._colors.pop(old, None) or next_color(
            self._colors.values()
        )

    def as_dict(self) -> dict[str, str]:
        """Return the settled colors by class."""
        return dict(self._colors)


def rgb(color: str) -> tuple[float, float, float]:
    """Return red, green and blue of `#rrggbb`, 0 to 1."""
    red, green, blue = bytes.fromhex(color.removeprefix("#"))
    return red / 255, green / 255, blue / 255
