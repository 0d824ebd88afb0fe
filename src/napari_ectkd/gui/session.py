"""What the panels of a viewer share: tomograms, picks, classes, project folder."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, finalize

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QApplication

from napari_ectkd.errors import ConfigError
from napari_ectkd.gui.autosave import Autosave
from napari_ectkd.gui.class_codes import class_codes
from napari_ectkd.gui.class_list import ClassList
from napari_ectkd.gui.layers import add_tomogram_layer
from napari_ectkd.gui.looks import Looks
from napari_ectkd.gui.overlay import Overlay
from napari_ectkd.gui.pick_book import PickBook
from napari_ectkd.gui.storage import Classes
from napari_ectkd.gui.tomogram_layers import TomogramLayers
from napari_ectkd.io.picks import NONE, UNLABELED
from napari_ectkd.io.tomogram import Tomogram, open_tomogram

if TYPE_CHECKING:
    from pathlib import Path

    from napari.components import ViewerModel
    from qtpy.QtGui import QUndoStack

    from napari_ectkd.gui.palette import Palette
    from napari_ectkd.io.picks import Picks

_KEPT = {"diameters", "densities", "min_confidence", "cuts"}
"""Fields of `Overlay` that a project keeps."""
_OF_VIEWER: WeakKeyDictionary[ViewerModel, Session] = WeakKeyDictionary()


class Session(QObject):
    """Open tomograms with their picks, and the classes that all share.

    It joins the layers that show picks, the book that keeps them with their history,
    the classes and what saves each change within half a second. `said` carries lines
    for a status bar, `saved` how saving went, each with whether it is a warning.
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
        self.tomograms: dict[str, Tomogram] = {}
        self.current: Tomogram | None = None
        self.diameter = 200.0
        self.overlay = Overlay()
        self.new_label = UNLABELED
        self.book = PickBook(self._show)
        self.undo_stack.indexChanged.connect(self.history_changed)
        self._classes = ClassList()
        self._disk = Autosave(
            self.tomograms,
            lambda: Classes(
                self.classes,
                self.palette.as_dict(),
                self.diameter,
                dict(self.overlay.diameters),
                dict(self.overlay.densities),
                self.overlay.min_confidence,
                dict(self.overlay.cuts),
            ),
        )
        self._disk.said.connect(self.said)
        self._disk.saved.connect(self.saved)
        # What is waiting is written when napari quits, or one of its windows closes.
        app = QApplication.instance()
        if app is not None:
            app.aboutToQuit.connect(self._disk.flush)
        finalize(viewer, self._disk.flush).atexit = False
        self.layers = TomogramLayers(viewer, self.tomograms)
        self.layers.inserted.connect(self._adopt)
        self.layers.closed.connect(self._on_closed)
        self.layers.edited.connect(self._on_edited)
        self.layers.lost.connect(self._on_lost)
        self.layers.announce()

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
        return self.layers.viewer

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
        self.layers.state(tomogram)
        if self.current is not None and self.current.name == tomogram.name:
            self.current = tomogram
        self._changed(tomogram.name)
        self.tomograms_changed.emit()

    def set_current(self, name: str) -> None:
        """Show one tomogram with its picks, and hide the others."""
        if name not in self.tomograms:
            return
        self.current = self.tomograms[name]
        self.layers.show_only(name)
        self.layers.set_thickness(self.diameter)
        self.current_changed.emit()

    # Picks

    @property
    def undo_stack(self) -> QUndoStack:
        """What was done to picks, step by step."""
        return self.book.undo_stack

    def picks(self, name: str) -> Picks:
        """Return the picks of a tomogram."""
        return self.book.of(name)

    def all_picks(self) -> Picks:
        """Return the picks of all open tomograms; joined anew only as they change."""
        return self.book.joined()

    def set_picks(self, name: str, picks: Picks, text: str = "") -> None:
        """Replace the picks of a tomogram; undoable if `text` says what was done."""
        if text:
            self.book.change(name, picks, text)
        else:
            self.book.show(name, picks)

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
        layer = self.layers.points(self.current.name)
        if layer is None:
            return 0
        chosen = sorted(layer.selected_data) if index is None else index
        if chosen:
            self.book.label(self.current.name, label, chosen)
            layer.selected_data = set(chosen)
        return len(chosen)

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
    def hidden(self) -> frozenset[str]:
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
        self.book.rename_class(old, new)
        self._classes_changed()

    def remove_class(self, name: str) -> None:
        """Remove a class; its picks stay, without this label or prediction."""
        self._classes.remove(name)
        self.overlay = self.overlay.renamed(name, UNLABELED)
        if self.new_label == name:
            self.new_label = UNLABELED
        self.book.remove_class(name)
        self._classes_changed()

    def set_color(self, name: str, color: str) -> None:
        """Settle the color of a class."""
        self.palette.set_color(name, color)
        self._classes_changed()

    def set_hidden(self, hidden: set[str]) -> None:
        """Hide the picks that are shown as one of these classes."""
        self._classes.hidden = frozenset(hidden)
        self._paint_all()
        self.overlay_changed.emit()

    def set_overlay(self, **changes: object) -> None:
        """Change how picks are shown: fields of `Overlay`."""
        self.overlay = replace(self.overlay, **changes)
        if _KEPT & changes.keys():
            self._disk.touch()
        self._paint_all()
        self.overlay_changed.emit()

    def set_diameter(self, diameter: float) -> None:
        """Set the diameter of the particles, Å: the size of points and of the slab."""
        self.diameter = float(diameter)
        self._paint_all()
        self.layers.set_thickness(self.diameter)
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
        path = project.save_labeled(self.all_picks(), self.tomograms.values())
        return path, project.tomograms_path

    def save(self) -> bool:
        """Write what changed; return whether it worked. Else it is tried again."""
        return self._disk.save()

    # How layers and session keep in step

    def _adopt(self, tomogram: Tomogram) -> None:
        saved, classes = self._disk.take_in(tomogram)
        is_first = not self.tomograms
        self.tomograms[tomogram.name] = tomogram
        self._classes.take_saved(classes)
        if is_first:
            self.diameter = classes.diameter
            self.overlay = replace(
                self.overlay,
                **{name: getattr(classes, name) for name in _KEPT},
            )
        self.book.open(tomogram.name)
        self.classes_changed.emit()
        self.layers.add_points(tomogram.name)
        if saved is not None:
            self.said.emit(f"{len(saved)} picks of {tomogram.name} are back", False)
        self.book.show(
            tomogram.name, self.picks(tomogram.name) if saved is None else saved
        )
        self.set_current(tomogram.name)
        self.tomograms_changed.emit()

    def _on_closed(self, name: str) -> None:
        self.save()
        del self.tomograms[name]
        self.book.close(name)
        if self.current is not None and self.current.name == name:
            self.current = None
            if self.tomograms:
                self.set_current(next(iter(self.tomograms)))
            else:
                self.current_changed.emit()
        self.tomograms_changed.emit()

    def _on_lost(self, name: str) -> None:
        self.book.show(name, self.picks(name))
        self.said.emit("the picks stay; close a tomogram by its image layer", True)

    def _on_edited(self, name: str, action: str) -> None:
        layer = self.layers.points(name)
        selected = set(layer.selected_data)
        self.book.take_in(
            name,
            self.layers.take(name),
            action,
            label=self.new_label,
            is_clicked=str(layer.mode) == "add",
        )
        layer.selected_data = {i for i in selected if i < len(self.picks(name))}

    def _show(self, name: str, picks: Picks) -> None:
        """Put picks into their layer, painted."""
        self._take_classes(picks)  # undo may bring back a name since changed
        self.layers.put(name, picks, self._looks())
        self._changed(name)
        self.picks_changed.emit(name)

    def _looks(self) -> Looks:
        return Looks(self.palette, self.hidden, self.diameter, self.overlay)

    def _paint_all(self) -> None:
        for name in self.tomograms:
            self.layers.paint(name, self._looks())

    def _classes_changed(self) -> None:
        self._paint_all()
        self._disk.touch()
        self.classes_changed.emit()

    def _changed(self, name: str) -> None:
        self._disk.changed(self.tomograms[name], self.picks(name))

    def _take_classes(self, picks: Picks) -> None:
        """Add the classes that labels or predictions name and that are new."""
        codes = class_codes(picks)
        used = {*codes.label.counts(), *codes.prediction.counts()}
        if self._classes.take(used):
            self.classes_changed.emit()


def class_choices(session: Session) -> list[str]:
    """Return the labels that can be given, in the order of their keys: 1 …, 0 last."""
    return [*session.classes, NONE]
