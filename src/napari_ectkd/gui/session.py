"""What the panels of a viewer share: tomograms, picks, classes, project folder."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, finalize, ref

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtGui import QUndoStack
from qtpy.QtWidgets import QApplication

from napari_ectkd.errors import ConfigError
from napari_ectkd.gui.autosave import Autosave
from napari_ectkd.gui.class_codes import class_codes
from napari_ectkd.gui.class_list import ClassList
from napari_ectkd.gui.layers import (
    add_picks_layer,
    add_tomogram_layer,
    layer_picks_name,
    layer_tomogram,
    paint_picks,
    put_picks,
    take_picks,
)
from napari_ectkd.gui.overlay import Overlay
from napari_ectkd.gui.pick_changes import (
    join_new,
    join_swept,
    with_class_replaced,
    with_predictions_of,
)
from napari_ectkd.gui.storage import Classes
from napari_ectkd.gui.undo import ChangePicks, rewrite_history
from napari_ectkd.io.picks import NONE, UNLABELED, Picks, join_picks
from napari_ectkd.io.star import write_picks
from napari_ectkd.io.tomogram import Tomogram, open_tomogram

if TYPE_CHECKING:
    from pathlib import Path

    from napari.components import ViewerModel
    from napari.layers import Image, Points

    from napari_ectkd.gui.palette import Palette

_OF_VIEWER: WeakKeyDictionary[ViewerModel, Session] = WeakKeyDictionary()


class Session(QObject):
    """Open tomograms with their picks, and the classes that all share.

    The layers hold the picks; the session reads them, paints them, keeps their history
    and saves each change within half a second. `said` carries lines for a status bar,
    `saved` how saving went, each with whether it is a warning.
    """

    tomograms_changed = Signal()
    current_changed = Signal()
    classes_changed = Signal()
    picks_changed = Signal(str)
    overlay_changed = Signal()
    history_changed = Signal()
    said = Signal(str, bool)
    saved = Signal(str, bool)

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = ref(viewer)  # else no viewer would ever be freed
        self.tomograms: dict[str, Tomogram] = {}
        self.current: Tomogram | None = None
        self.diameter = 200.0
        self.overlay = Overlay()
        self.new_label = UNLABELED
        self.undo_stack = QUndoStack(self)
        self.undo_stack.indexChanged.connect(self.history_changed)
        self._classes = ClassList()
        self._picks: dict[str, Picks] = {}  # not only in layers: those can be deleted
        self._joined: tuple[list[Picks], Picks] = [], Picks.empty()
        self._is_busy = False  # our own writing to layers is no change by the user
        self._disk = Autosave(
            self.tomograms,
            lambda: Classes(
                self.classes,
                self.palette.as_dict(),
                self.diameter,
                dict(self.overlay.diameters),
            ),
        )
        self._disk.said.connect(self.said)
        self._disk.saved.connect(self.saved)
        # What is waiting is written when napari quits, or one of its windows closes.
        app = QApplication.instance()
        if app is not None:
            app.aboutToQuit.connect(self._disk.flush)
        finalize(viewer, self._disk.flush).atexit = False
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        for layer in list(viewer.layers):
            self._adopt_layer(layer)

    @classmethod
    def of(cls, viewer: ViewerModel) -> Session:
        """Return the session of a viewer, the same for all of its panels."""
        # Plugins are given a proxy, a new one for each panel.
        viewer = getattr(viewer, "__wrapped__", viewer)
        if viewer not in _OF_VIEWER:
            _OF_VIEWER[viewer] = cls(viewer)
        return _OF_VIEWER[viewer]

    @property
    def viewer(self) -> ViewerModel:
        """The viewer whose panels share this."""
        viewer = self._viewer()
        if viewer is None:
            raise RuntimeError("the viewer of this session is gone")
        return viewer

    # Tomograms

    def open_tomogram(
        self,
        path: Path,
        *,
        voxel_size: float | None = None,
        is_inverted: bool | None = None,
        tilt_range: tuple[float, float] | None = None,
    ) -> Tomogram:
        """Open a tomogram, show it, and bring back its picks.

        What was said of it when it was last open holds, unless said anew.

        Raises
        ------
        EctkdError
            If it cannot be opened; `VoxelSizeError` to ask for its voxel size.
        """
        known = self._disk.known_facts(path)
        tomogram = open_tomogram(
            path,
            voxel_size=voxel_size or known.get("voxel_size"),
            is_inverted=known.get("is_inverted")
            if is_inverted is None
            else is_inverted,
            tilt_range=tilt_range or known.get("tilt_range"),
        )
        if tomogram.name in self.tomograms:
            if self.tomograms[tomogram.name].path.resolve() != path.resolve():
                raise ConfigError(
                    f"a tomogram called {tomogram.name} is open already; picks know "
                    "their tomogram by its name: rename one of the two files"
                )
            self.set_current(tomogram.name)
            return self.tomograms[tomogram.name]
        add_tomogram_layer(self.viewer, tomogram)  # adopted as it is inserted
        self.set_current(tomogram.name)  # napari has made the image the active layer
        return self.tomograms[tomogram.name]

    def state(self, tomogram: Tomogram) -> None:
        """Take what a person said of an open tomogram: contrast sign or tilt range."""
        self.tomograms[tomogram.name] = tomogram
        image = self.image_layer(tomogram.name)
        if image is not None:
            image.data.tomogram = tomogram
            image.metadata = {"ectkd": {"tomogram": tomogram}}
            image.contrast_limits_range = image.contrast_limits = (
                image.data.contrast_limits()
            )
            image.refresh()
        if self.current is not None and self.current.name == tomogram.name:
            self.current = tomogram
        self._changed(tomogram.name)
        self.tomograms_changed.emit()

    def set_current(self, name: str) -> None:
        """Show one tomogram with its picks, and hide the others."""
        if name not in self.tomograms:
            return
        self.current = self.tomograms[name]
        for layer in self.viewer.layers:
            tomogram = layer_tomogram(layer)
            owner = tomogram.name if tomogram else layer_picks_name(layer)
            if owner is not None:
                layer.visible = owner == name
        points = self.points_layer(name)
        if points is not None:
            self.viewer.layers.selection.active = points
        self._set_thickness()
        self.current_changed.emit()

    def image_layer(self, name: str) -> Image | None:
        """Return the layer that shows a tomogram."""
        for layer in self.viewer.layers:
            tomogram = layer_tomogram(layer)
            if tomogram is not None and tomogram.name == name:
                return layer
        return None

    def points_layer(self, name: str) -> Points | None:
        """Return the layer with the picks of a tomogram."""
        for layer in self.viewer.layers:
            if layer_picks_name(layer) == name:
                return layer
        return None

    # Picks

    def picks(self, name: str) -> Picks:
        """Return the picks of a tomogram."""
        found = self._picks.get(name)
        return Picks.empty() if found is None else found

    def all_picks(self) -> Picks:
        """Return the picks of all open tomograms; joined anew only as they change."""
        parts = [self.picks(name) for name in self.tomograms]
        if not parts:
            return Picks.empty()
        if [id(part) for part in parts] != [id(part) for part in self._joined[0]]:
            joined = parts[0] if len(parts) == 1 else join_picks(parts)
            self._joined = parts, joined
        return self._joined[1]

    def set_picks(self, name: str, picks: Picks, text: str = "") -> None:
        """Replace the picks of a tomogram; undoable if `text` says what was done."""
        before = self.picks(name)
        self._show(name, picks)
        if text:
            self.undo_stack.push(ChangePicks(text, name, before, picks, self._show))

    def assign(self, label: str, index: list[int] | None = None) -> int:
        """Give picks of the current tomogram a label; return how many.

        Parameters
        ----------
        label
            A class, `none`, or nothing to take a label away.
        index
            Which picks; by default those selected in napari.
        """
        if self.current is None:
            return 0
        layer = self.points_layer(self.current.name)
        if layer is None:
            return 0
        chosen = sorted(layer.selected_data) if index is None else index
        if chosen:
            picks = self.picks(self.current.name)
            labels = picks.label.copy()
            labels[chosen] = label
            what = f"label {label}" if label else "take labels away"
            self.set_picks(self.current.name, replace(picks, label=labels), what)
            layer.selected_data = set(chosen)
        return len(chosen)

    def merge_predictions(self, classified: Picks) -> int:
        """Take predictions for the picks of a tomogram by id; return for how many.

        Labels stay, and so do picks that were added, moved or deleted meanwhile.
        """
        n_merged = 0
        for name in sorted(set(classified.tomogram)):
            if name not in self.tomograms:
                continue
            found = classified.in_tomogram(name)
            merged, n = with_predictions_of(self.picks(name), found)
            self.set_picks(name, merged, "classify")
            n_merged += n
        return n_merged

    def join_picks(
        self, name: str, picks: Picks, text: str, distance: float = 1.0
    ) -> int:
        """Add picks to those of a tomogram; return how many were not there already.

        One within `distance` Å of a pick is taken for the same, see `join_new`.
        """
        if name not in self.tomograms:
            return 0
        owner = np.full(len(picks), name, dtype=object)
        joined, n = join_new(self.picks(name), replace(picks, tomogram=owner), distance)
        self.set_picks(name, joined, text)
        return n

    def take_swept(self, name: str, hits: Picks) -> int:
        """Show a sweep's hits in place of an earlier one's; return how many are new.

        Picks that somebody labeled or made by hand stay, see `join_swept`.
        """
        if name not in self.tomograms:
            return 0
        joined, n_new = join_swept(self.picks(name), hits)
        self.set_picks(name, joined, "sweep")
        return n_new

    def undo(self) -> None:
        """Take the last change of picks back."""
        self.undo_stack.undo()

    def redo(self) -> None:
        """Do again what was taken back."""
        self.undo_stack.redo()

    # Classes

    @property
    def classes(self) -> list[str]:
        """The classes, in the order of their keys."""
        return self._classes.names

    @property
    def palette(self) -> Palette:
        """The colors of the classes."""
        return self._classes.palette

    @property
    def hidden(self) -> set[str]:
        """The classes whose picks are not shown."""
        return self._classes.hidden

    def add_class(self, name: str, color: str | None = None) -> None:
        """Add a class.

        Raises
        ------
        ConfigError
            If the name is taken, reserved or empty.
        """
        self._classes.add(name, color)
        self._classes_changed()

    def rename_class(self, old: str, new: str) -> None:
        """Give a class another name, and all its labels and predictions with it.

        Raises
        ------
        ConfigError
            As `add_class`.
        """
        if new.strip() == old:
            return
        new = self._classes.rename(old, new)
        self.overlay = self.overlay.renamed(old, new)
        if self.new_label == old:
            self.new_label = new
        # No step to undo: all that was done before is now said of the new name.
        rewrite_history(self.undo_stack, lambda p: with_class_replaced(p, old, new))
        self._replace_class(old, new, "")
        self._classes_changed()

    def remove_class(self, name: str) -> None:
        """Remove a class; its picks stay, without this label or prediction."""
        self._classes.remove(name)
        self.overlay = self.overlay.renamed(name, UNLABELED)
        if self.new_label == name:
            self.new_label = UNLABELED
        self._replace_class(name, UNLABELED, f"remove class {name}")
        self._classes_changed()

    def set_color(self, name: str, color: str) -> None:
        """Settle the color of a class."""
        self.palette.set_color(name, color)
        self._classes_changed()

    def set_hidden(self, hidden: set[str]) -> None:
        """Hide the picks that are shown as one of these classes."""
        self._classes.hidden = set(hidden)
        self._paint_all()
        self.overlay_changed.emit()

    def set_overlay(self, **changes: object) -> None:
        """Change how picks are shown: fields of `Overlay`."""
        self.overlay = replace(self.overlay, **changes)
        self._paint_all()
        self.overlay_changed.emit()

    def set_diameter(self, diameter: float) -> None:
        """Set the diameter of the particles, Å: the size of points and of the slab."""
        self.diameter = float(diameter)
        self._paint_all()
        self._set_thickness()
        self._classes_changed()

    def set_new_label(self, label: str) -> None:
        """Set the label that points get as they are added by hand."""
        self.new_label = label

    # Files

    @property
    def folder(self) -> Path | None:
        """The project folder, once a tomogram is open."""
        return self._disk.project.path if self._disk.project else None

    def runs_folder(self) -> Path | None:
        """Return where the runs of this project are."""
        return self._disk.project.runs if self._disk.project else None

    def write_inputs(self) -> tuple[Path, Path]:
        """Write all labeled picks and the list of tomograms for a training job.

        Returns
        -------
        picks, tomograms
            A STAR file and a `tomograms.json`, as `ectkd train` takes them.

        Raises
        ------
        ConfigError
            If no tomogram is open.
        WriteError
            If they cannot be written.
        """
        project = self._disk.project
        if project is None:
            raise ConfigError("open a tomogram first")
        picks = self.all_picks()
        path = project.path / "labels" / "labeled-picks.star"
        sizes = {name: t.voxel_size for name, t in self.tomograms.items()}
        write_picks(path, picks[picks.is_labeled], sizes)
        project.save_tomograms(self.tomograms.values())
        return path, project.tomograms_path

    def save(self) -> bool:
        """Write what changed; return whether it worked. Else it is tried again."""
        return self._disk.save()

    # How layers and session keep in step

    def _on_inserted(self, event: object) -> None:
        self._adopt_layer(event.value)

    def _adopt_layer(self, layer: object) -> None:
        """Take in the image layer of a tomogram that a reader or we made."""
        tomogram = layer_tomogram(layer)
        if tomogram is not None and tomogram.name not in self.tomograms:
            self._adopt(tomogram)

    def _adopt(self, tomogram: Tomogram) -> None:
        saved, classes = self._disk.take_in(tomogram)
        is_first = not self.tomograms
        self.tomograms[tomogram.name] = tomogram
        self._classes.take_saved(classes)
        if is_first:
            self.diameter = classes.diameter
            self.overlay = replace(self.overlay, diameters=classes.diameters)
        self.classes_changed.emit()
        self._add_points_layer(tomogram.name)
        if saved is not None:
            self.take_classes(saved)
            self.said.emit(f"{len(saved)} picks of {tomogram.name} are back", False)
        self._show(tomogram.name, saved if saved is not None else Picks.empty())
        self.set_current(tomogram.name)
        self.tomograms_changed.emit()

    def _on_removed(self, event: object) -> None:
        tomogram = layer_tomogram(event.value)
        name = tomogram.name if tomogram else layer_picks_name(event.value)
        if name not in self.tomograms or self._is_busy:
            return
        # Layers are put right afterwards: napari may be removing all of them.
        QTimer.singleShot(0, self._settle_layers)
        if tomogram is None or self.image_layer(name) is not None:
            return  # opened twice, closed once
        self.save()
        del self.tomograms[name], self._picks[name]
        if self.current is not None and self.current.name == name:
            self.current = None
            if self.tomograms:
                self.set_current(next(iter(self.tomograms)))
            else:
                self.current_changed.emit()
        self.tomograms_changed.emit()

    def _settle_layers(self) -> None:
        """Bring back picks that were deleted with their layer; drop those of no use."""
        viewer = self._viewer()
        if viewer is None:
            return
        for layer in list(viewer.layers):
            name = layer_picks_name(layer)
            if name is not None and name not in self.tomograms:
                viewer.layers.remove(layer)
        for name in self.tomograms:
            if self.points_layer(name) is None:
                self._add_points_layer(name)
                self._show(name, self.picks(name))
                self.said.emit(
                    "the picks stay; close a tomogram by its image layer", True
                )

    def _add_points_layer(self, name: str) -> None:
        layer = add_picks_layer(self.viewer, self.tomograms[name])
        layer.events.data.connect(lambda event: self._on_data(name, event))

    def _on_data(self, name: str, event: object) -> None:
        """Take in what the user did to the points of a layer."""
        action = str(getattr(event, "action", ""))
        if self._is_busy or action not in {"added", "removed", "changed"}:
            return
        layer = self.points_layer(name)
        before = self.picks(name)
        after = take_picks(layer, self.tomograms[name])
        is_new = ~np.isin(after.pick_id, before.pick_id)
        if is_new.any():
            labels = after.label.copy()
            # A clicked point comes with the features of the selected one; only a pasted
            # one is meant to keep its label.
            is_clicked = str(layer.mode) == "add"
            labels[is_new & (is_clicked | (labels == UNLABELED))] = self.new_label
            after = after.with_labels(labels)
        selected = set(layer.selected_data)
        self._show(name, after)
        layer.selected_data = {i for i in selected if i < len(after)}
        words = {"added": "add picks", "removed": "delete picks"}
        self.undo_stack.push(
            ChangePicks(
                words.get(action, "move picks"),
                name,
                before,
                after,
                self._show,
                is_move=action == "changed",
            )
        )

    def _show(self, name: str, picks: Picks) -> None:
        """Put picks into their layer, painted."""
        if name not in self.tomograms:
            return  # undone after its tomogram was closed
        self._picks[name] = picks
        self.take_classes(picks)  # undo may bring back a name since changed
        layer = self.points_layer(name)
        if layer is None:
            return
        self._is_busy = True
        try:
            put_picks(layer, picks, self.tomograms[name], self.overlay)
            self._paint(name)
        finally:
            self._is_busy = False
        self._changed(name)
        self.picks_changed.emit(name)

    def _paint(self, name: str) -> None:
        layer = self.points_layer(name)
        if layer is not None:
            paint_picks(
                layer,
                self.palette,
                self.hidden,
                self.diameter,
                self.overlay,
                self.tomograms[name],
            )

    def _paint_all(self) -> None:
        for name in self.tomograms:
            self._paint(name)

    def _set_thickness(self) -> None:
        """Show the particles around a slice, not only those exactly on it."""
        self.viewer.dims.thickness = (self.diameter,) * self.viewer.dims.ndim

    def _classes_changed(self) -> None:
        self._paint_all()
        self._disk.touch()
        self.classes_changed.emit()

    def _changed(self, name: str) -> None:
        self._disk.changed(self.tomograms[name], self.picks(name))

    def take_classes(self, picks: Picks) -> None:
        """Add the classes that labels or predictions name and that are new."""
        codes = class_codes(picks)
        used = {*codes.label.counts(), *codes.prediction.counts()}
        if self._classes.take(used):
            self.classes_changed.emit()

    def _replace_class(self, old: str, new: str, text: str) -> None:
        """Replace a class name in all picks; one step to undo if `text` says so."""
        changed = {}
        for name in self.tomograms:
            picks = self.picks(name)
            if old in picks.label or old in picks.prediction:
                changed[name] = with_class_replaced(picks, old, new)
        if text and changed:
            self.undo_stack.beginMacro(text)
        for name, picks in changed.items():
            self.set_picks(name, picks, text)
        if text and changed:
            self.undo_stack.endMacro()


def class_choices(session: Session) -> list[str]:
    """Return the labels that can be given, in the order of their keys: 1 …, 0 last."""
    return [*session.classes, NONE]
