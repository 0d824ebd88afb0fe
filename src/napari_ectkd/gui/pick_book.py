"""The picks of the open tomograms, and the history of what was done to them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtGui import QUndoStack

from napari_ectkd.gui.pick_changes import (
    join_new,
    join_swept,
    with_class_replaced,
    with_predictions_of,
)
from napari_ectkd.gui.undo import ChangePicks, rewrite_history
from napari_ectkd.io.picks import UNLABELED, Picks, join_picks

if TYPE_CHECKING:
    from collections.abc import Callable

_WORDS = {"added": "add picks", "removed": "delete picks", "changed": "move picks"}


class PickBook:
    """Keeps picks by tomogram; each change can be shown, and taken back.

    Layers show picks, and can be deleted by the user: what counts is here.

    Parameters
    ----------
    show
        Called with the name of a tomogram and its picks, each time these change.

    Attributes
    ----------
    undo_stack
        One step for each change that was said to be one.
    """

    def __init__(self, show: Callable[[str, Picks], None]) -> None:
        self.undo_stack = QUndoStack()
        self._display = show
        self._picks: dict[str, Picks] = {}
        self._joined: tuple[list[Picks], Picks] = [], Picks.empty()

    def open(self, name: str) -> None:
        """Begin with a tomogram, which has no picks yet."""
        self._picks[name] = Picks.empty()

    def close(self, name: str) -> None:
        """Forget a tomogram; what is undone of it later has no effect."""
        del self._picks[name]

    def of(self, name: str) -> Picks:
        """Return the picks of a tomogram, none if it is not open."""
        found = self._picks.get(name)
        return Picks.empty() if found is None else found

    def joined(self) -> Picks:
        """Return the picks of all tomograms; joined anew only as they change."""
        parts = list(self._picks.values())
        if not parts:
            return Picks.empty()
        if [id(part) for part in parts] != [id(part) for part in self._joined[0]]:
            joined = parts[0] if len(parts) == 1 else join_picks(parts)
            self._joined = parts, joined
        return self._joined[1]

    def show(self, name: str, picks: Picks) -> None:
        """Replace the picks of a tomogram, outside of the history."""
        if name in self._picks:
            self._picks[name] = picks
            self._display(name, picks)

    def change(self, name: str, picks: Picks, text: str) -> None:
        """Replace the picks of a tomogram; `text` says what was done, as after Undo."""
        before = self.of(name)
        self.show(name, picks)
        self.undo_stack.push(ChangePicks(text, name, before, picks, self.show))

    def take_in(
        self, name: str, picks: Picks, action: str, *, label: str, is_clicked: bool
    ) -> None:
        """Take in what a person did to the points of a layer, as a step to undo.

        Parameters
        ----------
        name
            The tomogram.
        picks
            Those that the layer shows now.
        action
            What napari calls it: added, removed or changed.
        label
            What new picks get.
        is_clicked
            Whether new ones were clicked: such a point comes with the features of the
            selected one, and only a pasted one is meant to keep its label.
        """
        before = self.of(name)
        is_new = ~np.isin(picks.pick_id, before.pick_id)
        if is_new.any():
            labels = picks.label.copy()
            labels[is_new & (is_clicked | (labels == UNLABELED))] = label
            picks = picks.with_labels(labels)
        self.show(name, picks)
        is_move = action == "changed"
        self.undo_stack.push(
            ChangePicks(_WORDS[action], name, before, picks, self.show, is_move=is_move)
        )

    def label(self, name: str, label: str, chosen: list[int]) -> None:
        """Give picks of a tomogram a label, or with an empty one take theirs away."""
        picks = self.of(name)
        labels = picks.label.copy()
        labels[chosen] = label
        what = f"label {label}" if label else "take labels away"
        self.change(name, replace(picks, label=labels), what)

    def merge_predictions(self, classified: Picks) -> int:
        """Take predictions for the picks of open tomograms by id; return for how many.

        Labels stay, and so do picks that were added, moved or deleted meanwhile.
        """
        n_merged = 0
        for name in sorted(set(classified.tomogram) & set(self._picks)):
            found = classified.in_tomogram(name)
            merged, n = with_predictions_of(self.of(name), found)
            self.change(name, merged, "classify")
            n_merged += n
        return n_merged

    def join(self, name: str, picks: Picks, text: str, distance: float = 1.0) -> int:
        """Add picks to those of a tomogram; return how many were not there already.

        One within `distance` Å of a pick is taken for the same, see `join_new`.
        """
        if name not in self._picks:
            return 0
        owner = np.full(len(picks), name, dtype=object)
        joined, n = join_new(self.of(name), replace(picks, tomogram=owner), distance)
        self.change(name, joined, text)
        return n

    def take_swept(self, name: str, hits: Picks) -> int:
        """Show a sweep's hits in place of an earlier one's; return how many are new.

        Picks that somebody labeled or made by hand stay, see `join_swept`.
        """
        if name not in self._picks:
            return 0
        joined, n_new = join_swept(self.of(name), hits)
        self.change(name, joined, "sweep")
        return n_new

    def rename_class(self, old: str, new: str) -> None:
        """Give a class another name wherever it is said, also in the history.

        No step to undo: all that was done before is now said of the new name.
        """
        rewrite_history(self.undo_stack, lambda p: with_class_replaced(p, old, new))
        for name, picks in self._with_class(old).items():
            self.show(name, with_class_replaced(picks, old, new))

    def remove_class(self, name: str) -> None:
        """Take a class from all labels and predictions, as one step to undo."""
        changed = self._with_class(name)
        if not changed:
            return
        text = f"remove class {name}"
        self.undo_stack.beginMacro(text)
        for tomogram, picks in changed.items():
            self.change(tomogram, with_class_replaced(picks, name, UNLABELED), text)
        self.undo_stack.endMacro()

    def _with_class(self, name: str) -> dict[str, Picks]:
        """Return the picks of the tomograms where a class is said of any."""
        return {
            tomogram: picks
            for tomogram, picks in self._picks.items()
            if name in picks.label or name in picks.prediction
        }
