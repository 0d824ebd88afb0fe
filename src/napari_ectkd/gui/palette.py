"""Class names and their colors."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from napari_ectkd.io.picks import NONE, UNKNOWN, UNLABELED

if TYPE_CHECKING:
    from collections.abc import Mapping

# Bright on a gray tomogram and far apart for color-blind eyes too: Okabe and Ito (2008),
# their blue made lighter, then hues between them.
COLORS = (
    "#e69f00",
    "#56b4e9",
    "#00c08b",
    "#f0e442",
    "#4f8bff",
    "#ff6a2b",
    "#e88ac0",
    "#b3e04a",
    "#a98bff",
    "#35e0d8",
    "#ff5c7a",
    "#c9a36b",
)
SPECIAL = MappingProxyType({NONE: "#8c8c8c", UNKNOWN: "#c94fd1", UNLABELED: "#f4f4f4"})


@dataclass(frozen=True)
class Palette:
    """A color for each class; a value, so that it can be kept and compared."""

    colors: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> str:
        """Return the color of a class as `#rrggbb`; white for one never added."""
        return self.colors.get(name) or SPECIAL.get(name, "#ffffff")

    def with_class(self, name: str, color: str | None = None) -> Palette:
        """Return a palette with this class too, in the first color not yet taken."""
        if color is None:
            if name in self.colors or name in SPECIAL:
                return self
            taken = set(self.colors.values())
            free = [c for c in COLORS if c not in taken]
            color = free[0] if free else COLORS[len(self.colors) % len(COLORS)]
        return replace(self, colors={**self.colors, name: color})

    def renamed(self, old: str, new: str) -> Palette:
        """Return a palette in which a class has another name, its color kept."""
        return replace(
            self, colors={new if n == old else n: c for n, c in self.colors.items()}
        )

    def without(self, name: str) -> Palette:
        """Return a palette without a class."""
        return replace(self, colors={n: c for n, c in self.colors.items() if n != name})
