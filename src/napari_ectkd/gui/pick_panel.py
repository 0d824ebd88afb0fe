"""The panel to open tomograms, pick particles, and label them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
)

from napari_ectkd.errors import EctkdError, VoxelSizeError
from napari_ectkd.gui.classes_table import ClassesTable
from napari_ectkd.gui.display_form import DisplayForm
from napari_ectkd.gui.labeling import LabelingMode
from napari_ectkd.gui.panel import Panel, folded, set_problem
from napari_ectkd.gui.session import Session
from napari_ectkd.gui.status import JobStatus
from napari_ectkd.gui.tomogram_form import TomogramForm
from napari_ectkd.gui.voxel_size_question import VoxelSizeQuestion
from napari_ectkd.io.picks import UNKNOWN, UNLABELED
from napari_ectkd.io.star import read_picks, write_picks
from napari_ectkd.picking.config import PickConfig

if TYPE_CHECKING:
    import napari

    from napari_ectkd.io.picks import Picks
    from napari_ectkd.io.tomogram import Tomogram

_WARNING = "color: #f4a259"


class PickPanel(Panel):
    """Opens tomograms, picks by hand or automatically, and labels picks."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self.session = Session.of(napari_viewer)
        self.job = self.jobs.job("Picking")
        self.tomograms = TomogramForm(self.session)
        self.display = DisplayForm(self.session)
        self.diameter = QDoubleSpinBox(
            decimals=0, minimum=20, maximum=5000, singleStep=10, suffix=" Å"
        )
        self.threshold = QDoubleSpinBox(
            decimals=1, minimum=-5, maximum=50, singleStep=0.5, suffix=" σ"
        )
        self.pick_button = QPushButton("Pick automatically")
        self.status = JobStatus(self.job)
        self.by_hand = QPushButton("Pick by hand", checkable=True)
        self.classes = ClassesTable(self.session)
        self.assign_button = QPushButton("Label the selected picks")
        self.labeling = LabelingMode(self.session)
        self.keys_box = QCheckBox("Labeling by keys")
        self.keys_text = QLabel(wordWrap=True)
        self.undo_button = QPushButton("Undo")
        self.redo_button = QPushButton("Redo")
        self.load_button = QPushButton("Load STAR…")
        self.save_button = QPushButton("Save STAR…")
        self.question = VoxelSizeQuestion("Load with this voxel size")
        self.said = QLabel(wordWrap=True)
        self.saved = QLabel(wordWrap=True)
        self._folder: tempfile.TemporaryDirectory | None = None
        self._build()
        self._connect()
        self.refresh()

    def problem(self) -> str:
        """Return why nothing can be picked, or nothing."""
        if self.session.current is None:
            return "Open a tomogram first"
        return "Picking is at work" if self.job.is_active else ""

    def pick_automatically(self) -> None:
        """Pick particles of the diameter in the current tomogram, in a process."""
        tomogram = self.session.current
        if tomogram is None or self.job.is_active:
            return
        self._folder = tempfile.TemporaryDirectory(prefix="ectkd-pick-")
        folder = Path(self._folder.name)
        command = ["pick", str(tomogram.path.absolute())]
        command += ["--diameter", repr(self.diameter.value())]
        command += ["--threshold", repr(self.threshold.value())]
        command += ["--voxel-size", repr(tomogram.voxel_size)]
        command += ["--invert" if tomogram.is_inverted else "--no-invert"]
        command += ["--out", str(folder / f"{tomogram.name}.star")]
        try:
            self.job.start([*command, "--job", str(folder)], folder)
        except EctkdError as error:
            self.status.say(str(error), is_error=True)
            return
        self.status.clear()
        self.refresh()

    def load_picks(self, path: Path, voxel_size: float | None = None) -> None:
        """Add the picks of a STAR file to the open tomograms that they name.

        Asks how large a voxel of its coordinates is, if it does not say.
        """
        session = self.session
        try:
            loaded = read_picks(path, voxel_size=voxel_size)
        except VoxelSizeError as error:
            if session.current is not None:
                self.question.voxel_size.setValue(session.current.voxel_size)
            self.question.ask(error, lambda size: self.load_picks(path, size))
            self._say("", False)
            self.look_at(self.question)
            return
        except EctkdError as error:
            session.said.emit(str(error), True)
            return
        n_open, n_new, outside = 0, 0, 0
        for name, tomogram in session.tomograms.items():
            here = loaded[_is_of(loaded, name, len(session.tomograms))]
            n_open += len(here)
            outside += n_outside(here, tomogram)
            if len(here):
                n_new += session.book.join(name, here, "load picks")
        text = f"{n_new} picks loaded"
        if n_new < n_open:
            text += f", {n_open - n_new} were here already"
        others = set(loaded.tomogram) - set(session.tomograms)
        if nameless := int((loaded.tomogram == "").sum()) * (n_open < len(loaded)):
            text += f"; {nameless} name no tomogram: load them while it alone is open"
        if n_others := len(loaded) - n_open - nameless:
            text += f"; {n_others} are of tomograms that are not open: "
            text += ", ".join(sorted(others - {""})[:5])
        if outside:
            text += f"; {outside} lie outside of their tomogram: is the voxel size "
            text += f"right, that of {path.name} and that of it? Undo takes them back"
        session.said.emit(text, n_open < len(loaded) or outside > 0)

    def refresh(self) -> None:
        """Enable what can work now, and say what the keys do."""
        session = self.session
        set_problem(self.pick_button, self.problem(), "Find blobs of this diameter")
        is_open = "" if session.current else "Open a tomogram first"
        set_problem(
            self.by_hand,
            is_open,
            "Click in a slice to add a pick; it gets the class chosen below",
        )
        set_problem(self.load_button, is_open, "Add the picks of a RELION STAR file")
        n_picks = len(session.all_picks())
        problem = is_open or ("" if n_picks else "No picks yet")
        set_problem(self.save_button, problem, "Save all picks as a RELION STAR file")
        set_problem(
            self.assign_button,
            problem,
            "Give the picks that are selected in napari the class chosen in the table",
        )
        set_problem(
            self.undo_button,
            "" if session.undo_stack.canUndo() else "Nothing to undo",
            f"Undo: {session.undo_stack.undoText()}",
        )
        set_problem(
            self.redo_button,
            "" if session.undo_stack.canRedo() else "Nothing to redo",
            f"Redo: {session.undo_stack.redoText()}",
        )
        if self.diameter.value() != session.diameter:
            self.diameter.blockSignals(True)
            self.diameter.setValue(session.diameter)
            self.diameter.blockSignals(False)
        keys = "  ".join(f"{k} {name}" for k, name in self.labeling.keys().items())
        self.keys_text.setText(f"In the image, press: {keys}  ⌫ no label  N next pick")
        self.keys_text.setVisible(self.labeling.is_on)

    def _build(self) -> None:
        self.column.addWidget(self.tomograms)
        view = folded("How it is shown", self.display)
        view.expand(animate=False)
        self.column.addWidget(view)
        self.add_heading("Pick")
        form = QFormLayout()
        form.addRow("Particle diameter", self.diameter)
        self.diameter.setToolTip(
            "<qt>Of a typical particle: the size of blobs to find, of the points, and "
            "of the slab in which they are shown</qt>"
        )
        form.addRow("Threshold", self.threshold)
        default = PickConfig.model_fields["threshold"]
        self.threshold.setValue(default.default)
        self.threshold.setToolTip(f"<qt>{default.description}</qt>")
        self.column.addLayout(form)
        row = QHBoxLayout()
        row.addWidget(self.pick_button)
        row.addWidget(self.by_hand)
        self.column.addLayout(row)
        self.column.addWidget(self.status)
        self.add_heading("Label")
        self.column.addWidget(self.classes)
        self.column.addWidget(self.assign_button)
        self.column.addWidget(self.keys_box)
        self.keys_box.setToolTip(
            "<qt>While this is on, digits give the selected picks a class, and the "
            "next pick without a label is shown; napari's own digits rest.</qt>"
        )
        self.column.addWidget(self.keys_text)
        row = QHBoxLayout()
        for button in (self.undo_button, self.redo_button):
            row.addWidget(button)
        self.column.addLayout(row)
        row = QHBoxLayout()
        for button in (self.load_button, self.save_button):
            row.addWidget(button)
        self.column.addLayout(row)
        self.column.addWidget(self.question)
        self.column.addWidget(self.said)
        self.column.addWidget(self.saved)
        self.column.addStretch(1)

    def _connect(self) -> None:
        session = self.session
        self.pick_button.clicked.connect(self.pick_automatically)
        self.by_hand.toggled.connect(self._set_by_hand)
        self.diameter.valueChanged.connect(session.set_diameter)
        self.classes.chosen.connect(self._on_class_chosen)
        self.assign_button.clicked.connect(self._assign)
        self.keys_box.toggled.connect(self._set_labeling)
        self.undo_button.clicked.connect(session.undo_stack.undo)
        self.redo_button.clicked.connect(session.undo_stack.redo)
        self.load_button.clicked.connect(self._choose_load)
        self.save_button.clicked.connect(self._choose_save)
        self.job.progressed.connect(self._on_progressed)
        self.job.done.connect(self._on_picked)
        self.job.ended.connect(self._on_ended)
        session.said.connect(self._say)
        session.saved.connect(self._say_saved)
        session.history_changed.connect(self.refresh)
        session.tomograms_changed.connect(self.refresh)
        session.current_changed.connect(self._on_current_changed)
        session.classes_changed.connect(self.refresh)
        session.picks_changed.connect(self.refresh)

    def _on_current_changed(self) -> None:
        self.by_hand.setChecked(False)
        self.refresh()

    def _set_by_hand(self, is_on: bool) -> None:
        current = self.session.current
        layer = self.session.layers.points(current.name) if current else None
        if layer is not None:
            self.session.viewer.layers.selection.active = layer
            layer.mode = "add" if is_on else "pan_zoom"

    def _set_labeling(self, is_on: bool) -> None:
        if is_on:
            self.by_hand.setChecked(False)
        self.labeling.set_on(is_on)
        self.refresh()

    def _on_class_chosen(self, name: str) -> None:
        self.session.set_new_label(UNLABELED if name == UNKNOWN else name)

    def _assign(self) -> None:
        name = self.classes.current()
        if name is None or name == UNKNOWN:
            self._say("Choose a class in the table first", True)
        elif not self.session.assign(name):
            self._say("Select picks in the image first (key 3, then drag)", True)

    def _on_progressed(self) -> None:
        if self.pick_button.isEnabled():  # another panel started it
            self.refresh()

    def _on_picked(self) -> None:
        if self._folder is None:
            return  # another panel of this window started it, and takes the picks
        path = next(self.job.folder.glob("*.star"))
        picks = read_picks(path)
        if not len(picks):
            self.status.say("Nothing found: lower threshold?")
            return
        # Found again, by another threshold or by eye before: not picked twice.
        distance = self.diameter.value() / 2
        n = self.session.book.join(path.stem, picks, "pick automatically", distance)
        old = len(picks) - n
        self.status.say(f"{n} picks found." + (f" {old} were there." if old else ""))

    def _on_ended(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
        self.refresh()

    def _choose_load(self) -> None:
        name, _ = QFileDialog.getOpenFileName(
            self, "Load picks", "", "STAR files (*.star)"
        )
        if name:
            self.load_picks(Path(name))

    def _choose_save(self) -> None:
        name, _ = QFileDialog.getSaveFileName(
            self, "Save picks", "picks.star", "STAR files (*.star)"
        )
        if not name:
            return
        sizes = {n: t.voxel_size for n, t in self.session.tomograms.items()}
        try:
            write_picks(Path(name), self.session.all_picks(), sizes)
            self._say(f"Saved {name}", False)
        except EctkdError as error:
            self._say(str(error), True)

    def _say(self, text: str, is_warning: bool) -> None:
        self.said.setText(text)
        self.said.setStyleSheet(_WARNING if is_warning else "")
        if is_warning:
            self.look_at(self.said)  # it stands below what was clicked

    def _say_saved(self, text: str, is_warning: bool) -> None:
        self.saved.setText(text)
        self.saved.setStyleSheet(_WARNING if is_warning else "")


def _is_of(picks: Picks, name: str, n_open: int):
    """Return which picks belong to a tomogram; nameless ones to the only one open."""
    return (picks.tomogram == name) | ((picks.tomogram == "") & (n_open == 1))


def n_outside(picks: Picks, tomogram: Tomogram) -> int:
    """Return how many picks have their center outside of a tomogram."""
    reach = tomogram.voxel_size / 2
    below = picks.positions < -reach
    above = picks.positions > tomogram.extent + reach
    return int((below | above).any(axis=1).sum())
