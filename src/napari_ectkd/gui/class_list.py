"""The classes that tomograms share: their order, their colors, which are hidden."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ectkd.errors import ConfigError
from napari_ectkd.gui.palette import Palette
from napari_ectkd.io.class_colors import SPECIAL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_ectkd.gui.storage import Classes


class ClassList:
    """Class names in the order of their keys; it knows no picks.

    Attributes
    ----------
    names
        The classes, without `none` and the other special ones.
    palette
        Their colors.
    hidden
        What is not shown; special ones can be hidden too.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.palette = Palette()
        self.hidden: frozenset[str] = frozenset()

    def add(self, name: str, color: str | None = None) -> None:
        """Add a class.

        Raises
        ------
        ConfigError
            If the name is taken, reserved or empty.
        """
        name = self._usable(name)
        self.names.append(name)
        if color:
            self.palette.set_color(name, color)
        self.palette.color(name)

    def rename(self, old: str, new: str) -> str:
        """Give a class another name and return it; its color and place stay.

        Raises
        ------
        ConfigError
            As `add`.
        """
        new = self._usable(new)
        self.palette.rename(old, new)
        self.names[self.names.index(old)] = new
        if old in self.hidden:
            self.hidden = self.hidden - {old} | {new}
        return new

    def remove(self, name: str) -> None:
        """Remove a class; if it comes back, it has its color again."""
        self.names.remove(name)
        self.hidden = self.hidden - {name}

    def take(self, names: Iterable[str]) -> bool:
        """Add the names that are new; return whether there were any."""
        new = sorted(set(names) - set(self.names) - set(SPECIAL))
        for name in new:
            self.names.append(name)
            self.palette.color(name)
        return bool(new)

    def take_saved(self, classes: Classes) -> None:
        """Add the classes of a project, with their colors where none is settled."""
        self.palette.settle(classes.colors)
        self.names += [name for name in classes.names if name not in self.names]

    def _usable(self, name: str) -> str:
        name = name.strip()
        if not name or name in SPECIAL:
            raise ConfigError(f"{name!r} cannot be the name of a class")
        if name in self.names:
            raise ConfigError(f"there is a class called {name} already")
        return name
