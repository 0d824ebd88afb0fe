"""What a model learns from: the labels in this window, or a data set on the disk."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QLabel, QVBoxLayout, QWidget

from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.errors import EctkdError
from napari_ectkd.gui.choice_edit import ChoiceEdit
from napari_ectkd.gui.class_codes import class_codes
from napari_ectkd.gui.editors import FloatEdit, IntEdit, PathEdit, PathsEdit
from napari_ectkd.io.atomic import make_folder
from napari_ectkd.io.picks import NONE, UNLABELED
from napari_ectkd.io.stacks import box_of
from napari_ectkd.models.registry import smallest_box
from napari_ectkd.simulation.settings_file import read_settings

if TYPE_CHECKING:
    from pathlib import Path

    from napari_ectkd.gui.session import Session
    from napari_ectkd.models.checkpoint import CheckpointInfo

_LABELS, _FILES, _STREAM = "labels", "files", "stream"
_WARNING = "color: #f4a259"
BOX_PER_DIAMETER = 1.6
"""Room around a particle, so that shifts by some voxels do not cut it."""


class DataSource(QWidget):
    """Chooses the labeled subtomograms, their box and their voxel size."""

    valueChanged = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._box_is_chosen = self._size_is_chosen = False
        self.source = ChoiceEdit(
            [
                (_LABELS, "the labels in this window"),
                (_FILES, "a data set on disk"),
                (_STREAM, "a simulation, made meanwhile"),
            ]
        )
        self.counts = QLabel(wordWrap=True)
        self.files = PathsEdit()
        self.files.setToolTip(
            "<qt>A folder that a simulation wrote, or a folder of MRC files with one "
            "sub-folder a class</qt>"
        )
        self.settings = PathEdit()
        self.settings.setToolTip(
            "<qt>The settings of a simulation, as Simulate writes them, or a data set "
            "that was simulated, for more of its kind. Subtomograms are made while the "
            "network learns; none is shown for long.</qt>"
        )
        self.box = IntEdit(8, 256, "voxels")
        self.extent = QLabel(wordWrap=True)
        self.voxel_size = FloatEdit(0.2, 200, "Å", step=1)
        self._build()
        for signal in (session.picks_changed, session.classes_changed):
            signal.connect(self._refresh)
        session.tomograms_changed.connect(self._refresh)
        self._refresh()

    def problem(self) -> str:
        """Return why there is nothing to learn from, or nothing."""
        if self.source.value() == _FILES:
            return "" if self.files.value() else "Choose the folder of a data set"
        if self.source.value() == _STREAM:
            return "" if self.settings.value() else "Choose a simulation's settings"
        if not self._session.tomograms:
            return "Open a tomogram and label picks, or choose a data set on disk"
        classes = self.class_counts()
        if len(classes) < 2:
            have = f"; so far there is {next(iter(classes))}" if classes else ""
            return f"Label at least two classes{have}"
        few = [name for name, n in classes.items() if n < 2]
        if few:
            return f"Label at least two picks of each class; {few[0]} has one"
        return ""

    def class_counts(self) -> dict[str, int]:
        """Return the number of labels of each class, over all tomograms."""
        counts = class_codes(self._session.all_picks()).label.counts()
        del counts[UNLABELED]
        return dict(counts.most_common())

    def box_px(self) -> int | None:
        """Return the box; None where only reading all of the data set would tell."""
        if self.is_of_window():
            return self.box.value()
        if self.source.value() == _FILES:
            return next(map(box_of, self.files.value()), None)
        path = self.settings.value()
        try:
            return None if path is None else read_settings(path).box
        except EctkdError:
            return None  # these are no settings, as Start says

    def is_of_window(self) -> bool:
        """Return whether what is labeled in this window teaches."""
        return bool(self.source.value() == _LABELS)

    def write(self, run: Path) -> DataConfig:
        """Return the choice for a run, with its own copy of the labels of now.

        Raises
        ------
        WriteError
            If the folder cannot be written.
        """
        if self.source.value() == _FILES:
            return DataConfig(data=self.files.value())
        if self.source.value() == _STREAM:
            return DataConfig(stream=self.settings.value())
        picks, tomograms = self._session.write_inputs()
        # The window goes on labeling; a run that is resumed needs what it began with.
        folder = make_folder(run / "data")
        return DataConfig(
            data=[shutil.copy(picks, folder)],
            tomograms=[shutil.copy(tomograms, folder)],
            box=self.box.value(),
            voxel_size=self.voxel_size.value(),
        )

    def show_files(self, paths: list[Path]) -> None:
        """Choose data sets on disk."""
        self.source.setValue(_FILES)
        self.files.setValue(paths)

    def show_stream(self, settings: Path) -> None:
        """Choose a simulation to learn from while it is made."""
        self.source.setValue(_STREAM)
        self.settings.setValue(settings)

    def follow(self, teacher: CheckpointInfo | None) -> None:
        """Take box and voxel size from a teacher, whose student sees the same."""
        is_free = teacher is None
        for editor in (self.box, self.voxel_size):
            editor.setEnabled(is_free)
            editor.setToolTip("" if is_free else "as the teacher's")
        if teacher is not None:
            self._fill(teacher.box, teacher.voxel_size)
            self._box_is_chosen = self._size_is_chosen = True

    def _build(self) -> None:
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        layout.addRow("Learn from", self.source)
        layout.addRow(self.counts)
        layout.addRow(self.files)
        layout.addRow(self.settings)
        self._crop = QWidget()
        crop = QFormLayout(self._crop)
        crop.setContentsMargins(0, 0, 0, 0)
        crop.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        box = QWidget()
        column = QVBoxLayout(box)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.box)
        column.addWidget(self.extent)
        crop.addRow("Box", box)
        crop.addRow("Voxel size", self.voxel_size)
        layout.addRow(self._crop)
        self.source.valueChanged.connect(self._refresh)
        self.files.valueChanged.connect(self.valueChanged)
        self.settings.valueChanged.connect(self.valueChanged)
        self.box.valueChanged.connect(self._choose_box)
        self.voxel_size.valueChanged.connect(self._choose_size)

    def _choose_box(self) -> None:
        self._box_is_chosen = True
        self._refresh()

    def _choose_size(self) -> None:
        self._size_is_chosen = True
        self._refresh()

    def _refresh(self) -> None:
        is_labels = self.source.value() == _LABELS
        self.counts.setVisible(is_labels)
        self._crop.setVisible(is_labels and bool(self._session.tomograms))
        self.files.setVisible(self.source.value() == _FILES)
        self.settings.setVisible(self.source.value() == _STREAM)
        tomograms = self._session.tomograms.values()
        size = self.voxel_size.value()
        if tomograms and not self._size_is_chosen:
            # The coarsest: finer tomograms can be resampled to it, not the reverse.
            size = max(tomogram.voxel_size for tomogram in tomograms)
        box = self.box.value()
        if tomograms and not self._box_is_chosen:
            box = default_box(self._session.diameter, size)
        self._fill(box, size)
        self._show_counts()
        self.valueChanged.emit()

    def _fill(self, box: int, size: float) -> None:
        for editor, value in ((self.box, box), (self.voxel_size, size)):
            editor.blockSignals(True)
            editor.setValue(value)
            editor.blockSignals(False)
        diameter = self._session.diameter
        text = f"{box * size:.0f} Å; particles are {diameter:.0f} Å"
        least = smallest_box("student")
        self.extent.setStyleSheet(_WARNING if box < least else "")
        if box < least:
            text += f". No student takes fewer than {least} voxels"
        self.extent.setText(text)

    def _show_counts(self) -> None:
        counts = self.class_counts()
        if not counts:
            todo = "label picks" if self._session.tomograms else "open a tomogram"
            self.counts.setText(f"No labels yet: {todo} in step 1.")
            return
        n = len(self._session.tomograms)
        where = f"in {n} tomograms" if n > 1 else "in 1 tomogram"
        listed = " · ".join(f"{name} {count}" for name, count in counts.items())
        text = f"{sum(counts.values())} labels {where}: {listed}"
        if NONE not in counts:
            text += (
                f"\n⚠ No pick is labeled {NONE}, as one that is no particle: all would "
                "be a particle to the model."
            )
        self.counts.setText(text)


def default_box(diameter: float, voxel_size: float) -> int:
    """Return a box in voxels, a multiple of 4, for a diameter; both sizes in Å.

    A student sees what its teacher sees: no box is proposed that no student can take.
    """
    least = 4 * -(-smallest_box("student") // 4)
    return min(max(4 * round(BOX_PER_DIAMETER * diameter / voxel_size / 4), least), 256)
