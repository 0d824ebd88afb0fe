"""Labels by keys: an explicit mode in which digits give the selected picks a class.

Bare digits switch the modes of napari's own points layers, so that they are taken only
while this mode is on, and given back afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_ectkd.gui.class_codes import class_codes
from napari_ectkd.gui.session import class_choices
from napari_ectkd.io.picks import NONE, UNLABELED

if TYPE_CHECKING:
    from napari.layers import Points

    from napari_ectkd.gui.session import Session

KEYS = "123456789"
NONE_KEY = "0"
CLEAR_KEY = "Backspace"
NEXT_KEY = "N"


class LabelingMode(QObject):
    """Gives labels by keys, and goes on to the next pick without one.

    Parameters
    ----------
    session
        Whose current tomogram is labeled.
    """

    toggled = Signal(bool)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._layer: Points | None = None
        self.is_on = False
        session.current_changed.connect(self._follow)
        session.tomograms_changed.connect(self._follow)
        session.picks_changed.connect(self._follow)  # their layer may be a new one

    def set_on(self, is_on: bool) -> None:
        """Take the keys, or give them back to napari."""
        if is_on == self.is_on:
            return
        self.is_on = is_on
        self._follow()
        if is_on and self._layer is not None:
            # Keys go to the active layer, which may be another one's points.
            self._session.viewer.layers.selection.active = self._layer
            self._layer.mode = "select"
            if not self._layer.selected_data:
                self.go_to_next()
        self.toggled.emit(is_on)

    def keys(self) -> dict[str, str]:
        """Return the class of each key."""
        classes = dict(zip(KEYS, self._session.classes, strict=False))
        return classes | {NONE_KEY: NONE}

    def assign_key(self, key: str) -> bool:
        """Do what a key stands for; return whether it stands for anything."""
        if key == NEXT_KEY:
            self.go_to_next()
            return True
        label = UNLABELED if key == CLEAR_KEY else self.keys().get(key)
        if label is None or label not in [*class_choices(self._session), UNLABELED]:
            return False
        n = self._session.assign(label)
        # One pick at a time is labeled in a row; a group is left selected.
        if n == 1 and label:
            self.go_to_next()
        return True

    def go_to_next(self) -> None:
        """Select the next pick without a label, and show it."""
        session = self._session
        if session.current is None or self._layer is None:
            return
        picks = session.picks(session.current.name)
        waiting = np.flatnonzero(~class_codes(picks).is_labeled)
        if not len(waiting):
            session.said.emit("all picks of this tomogram have a label", False)
            return
        here = max(self._layer.selected_data, default=-1)
        later = waiting[waiting > here]
        chosen = int(later[0] if len(later) else waiting[0])
        self._layer.selected_data = {chosen}
        show_position(session, picks.positions[chosen])

    def _follow(self) -> None:
        """Bind the keys to the layer of the current tomogram, and to no other."""
        current = self._session.current
        layer = None
        if self.is_on and current is not None:
            layer = self._session.layers.points(current.name)
        if layer is self._layer:
            return
        if self._layer is not None:
            for key in self._all_keys():
                self._layer.bind_key(key, None)
        self._layer = layer
        if layer is not None:
            for key in self._all_keys():
                layer.bind_key(key, self._binding(key), overwrite=True)

    def _binding(self, key: str):
        def act(_layer: Points) -> None:
            self.assign_key(key)

        return act

    def _all_keys(self) -> list[str]:
        return [*KEYS, NONE_KEY, CLEAR_KEY, NEXT_KEY]


def show_position(session: Session, position: np.ndarray) -> None:
    """Move slices and camera to a position in Å."""
    viewer = session.viewer
    dims = viewer.dims
    for axis in dims.not_displayed:
        dims.set_point(axis, position[axis])
    center = list(viewer.scene.camera.center)
    for row, axis in zip(range(-len(dims.displayed), 0), dims.displayed, strict=True):
        center[row] = position[axis]
    viewer.scene.camera.center = tuple(center)
