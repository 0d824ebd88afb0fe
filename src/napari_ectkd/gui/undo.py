"""Undo and redo of everything done to picks, labels and classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qtpy.QtGui import QUndoCommand, QUndoStack

from napari_ectkd.gui.palette import Palette

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_ectkd.io.picks import Picks

LIMIT = 200
"""Steps that are kept. A step shares all picks that it did not change."""


@dataclass(frozen=True, eq=False)
class State:
    """What a user works on: classes, their colors, and the picks of each tomogram."""

    classes: tuple[str, ...] = ()
    palette: Palette = field(default_factory=Palette)
    picks: Mapping[str, Picks] = field(default_factory=dict)


class History(QUndoStack):
    """A stack of states; what was done already is pushed, not done again."""

    def __init__(self, restore: Callable[[State], None]) -> None:
        super().__init__()
        self.setUndoLimit(LIMIT)
        self._restore = restore

    def record(self, text: str, before: State, after: State) -> None:
        """Add a step that was just done."""
        self.push(_Step(text, before, after, self._restore))


class _Step(QUndoCommand):
    def __init__(
        self, text: str, before: State, after: State, restore: Callable[[State], None]
    ) -> None:
        super().__init__(text)
        self._before, self._after, self._restore = before, after, restore
        self._is_new = True

    def undo(self) -> None:
        self._restore(self._before)

    def redo(self) -> None:
        if self._is_new:  # Qt redoes a step when it is pushed
            self._is_new = False
        else:
            self._restore(self._after)
