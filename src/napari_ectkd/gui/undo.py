"""Undo and redo of what is done to picks: snapshots, since picks are immutable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtGui import QUndoCommand

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtGui import QUndoStack

    from napari_ectkd.io.picks import Picks

_MOVE = 1


class ChangePicks(QUndoCommand):
    """One change of the picks of a tomogram, which has been made already.

    Parameters
    ----------
    text
        What was done, as after "Undo".
    name
        The tomogram.
    before, after
        Its picks.
    show
        What puts picks of a tomogram into their layer.
    is_move
        Whether picks were only moved: further moves of the same ones join this step.
    """

    def __init__(
        self,
        text: str,
        name: str,
        before: Picks,
        after: Picks,
        show: Callable[[str, Picks], None],
        *,
        is_move: bool = False,
    ) -> None:
        super().__init__(text)
        self._name, self._before, self._after = name, before, after
        self._show, self._is_move = show, is_move
        self._is_new = True

    def id(self) -> int:
        """Return which steps may be joined."""
        return _MOVE if self._is_move else -1

    def mergeWith(self, other: QUndoCommand) -> bool:
        """Join a move that goes on from this one with the same picks."""
        goes_on = (
            isinstance(other, ChangePicks)
            and other._name == self._name
            and other._before is self._after
            and _moved(self) == _moved(other)
        )
        if goes_on:
            self._after = other._after
        return goes_on

    def undo(self) -> None:
        """Show the picks as they were."""
        self._show(self._name, self._before)

    def rewrite(self, change: Callable[[Picks], Picks]) -> None:
        """Change the picks before and after this step."""
        self._before, self._after = change(self._before), change(self._after)

    def redo(self) -> None:
        """Show the picks as they became."""
        if self._is_new:  # Qt redoes a step when it is pushed
            self._is_new = False
        else:
            self._show(self._name, self._after)


def rewrite_history(stack: QUndoStack, change: Callable[[Picks], Picks]) -> None:
    """Change the picks before and after each step, as if they always had been so."""
    rewritten: dict[int, tuple[Picks, Picks]] = {}  # the old ones keep their id taken

    def once(picks: Picks) -> Picks:
        if id(picks) not in rewritten:
            rewritten[id(picks)] = picks, change(picks)
        return rewritten[id(picks)][1]

    for number in range(stack.count()):
        command = stack.command(number)
        steps = [command, *(command.child(i) for i in range(command.childCount()))]
        for step in steps:
            if isinstance(step, ChangePicks):
                step.rewrite(once)


def _moved(step: ChangePicks) -> set[int]:
    """Return the ids of the picks whose position a move changed."""
    if len(step._before) != len(step._after):
        return set()
    is_moved = (step._before.positions != step._after.positions).any(axis=1)
    return set(step._after.pick_id[is_moved])
