"""Opening tomograms, choosing the one to work on, and what its file doesn't say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_ectkd.errors import EctkdError, VoxelSizeError
from napari_ectkd.gui.voxel_size_question import VoxelSizeQuestion

if TYPE_CHECKING:
    from napari_ectkd.gui.session import Session

FILES = "Tomograms (*.mrc *.rec *.map *.mrc.gz *.rec.gz *.map.gz *.tif *.tiff)"


class TomogramForm(QWidget):
    """Opens tomograms; shows and edits the facts of the current one."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._waiting: list[Path] = []
        self.open_button = QPushButton("Open tomograms…")
        self.chooser = QComboBox()
        self.facts = QLabel(wordWrap=True)
        self.is_dark = QCheckBox("Protein is dark in the file")
        self.knows_tilt = QCheckBox("Tilt range")
        self.lowest, self.highest = _degrees(-60), _degrees(60)
        self.question = VoxelSizeQuestion("Open with this voxel size")
        self._build()
        session.tomograms_changed.connect(self.refresh)
        session.current_changed.connect(self.refresh)
        self.refresh()

    def open_paths(self, paths: list[Path]) -> None:
        """Open tomograms; ask for a voxel size where one is missing."""
        self._waiting += paths
        self._open_next()

    def refresh(self) -> None:
        """Show the tomograms and facts of now."""
        session = self._session
        names = list(session.tomograms)
        with QSignalBlocker(self.chooser):
            self.chooser.clear()
            self.chooser.addItems(names)
            if session.current is not None:
                self.chooser.setCurrentText(session.current.name)
        self.chooser.setVisible(len(names) > 1)
        tomogram = session.current
        for widget in (self.is_dark, self.knows_tilt, self.lowest, self.highest):
            widget.setEnabled(tomogram is not None)
        if tomogram is None:
            self.facts.setText(
                "Open a tomogram (MRC or TIFF), or drop one on the window. To try it "
                "without data: File > Open Sample > napari-ectkd > Phantom tomogram."
            )
            return
        shape = " × ".join(str(n) for n in tomogram.shape)
        self.facts.setText(
            f"<b>{tomogram.name}</b>: {shape} voxels (z, y, x) of "
            f"{tomogram.voxel_size:g} Å"
        )
        with QSignalBlocker(self.is_dark):
            self.is_dark.setChecked(tomogram.is_inverted)
        guessed = " (guessed)" if tomogram.contrast_is_guessed else ""
        self.is_dark.setText(f"Protein is dark in the file{guessed}")
        with QSignalBlocker(self.knows_tilt):
            self.knows_tilt.setChecked(tomogram.tilt_range is not None)
        if tomogram.tilt_range is not None:
            for box, value in zip(
                (self.lowest, self.highest), tomogram.tilt_range, strict=True
            ):
                with QSignalBlocker(box):
                    box.setValue(value)
        for box in (self.lowest, self.highest):
            box.setEnabled(tomogram.tilt_range is not None)

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.open_button)
        layout.addWidget(self.question)
        layout.addWidget(self.chooser)
        layout.addWidget(self.facts)
        layout.addWidget(self.is_dark)
        self.is_dark.setToolTip(
            "<qt>Whether macromolecules are darker than the ice around them. Models "
            "see protein bright; switch it if the guess is wrong.</qt>"
        )
        tilt = QHBoxLayout()
        tilt.addWidget(self.knows_tilt)
        tilt.addWidget(self.lowest)
        tilt.addWidget(QLabel("to"))
        tilt.addWidget(self.highest)
        tilt.addStretch(1)
        self.knows_tilt.setToolTip(
            "<qt>Lowest and highest tilt about the y axis, if you know them: a "
            "symmetric range allows more augmentation.</qt>"
        )
        layout.addLayout(tilt)
        self.open_button.clicked.connect(self._choose_files)
        self.question.skipped.connect(self._open_next)
        self.chooser.textActivated.connect(self._session.set_current)
        self.is_dark.toggled.connect(self._set_contrast)
        self.knows_tilt.toggled.connect(self._set_tilt)
        self.lowest.valueChanged.connect(self._set_tilt)
        self.highest.valueChanged.connect(self._set_tilt)

    def _choose_files(self) -> None:
        names, _ = QFileDialog.getOpenFileNames(self, "Open tomograms", "", FILES)
        self.open_paths([Path(name) for name in names])

    def _open_next(self) -> None:
        waiting, self._waiting = self._waiting, []
        for path in waiting:
            self._open(path)

    def _open(self, path: Path, voxel_size: float | None = None) -> None:
        n_before = len(self._session.tomograms)
        try:
            tomogram = self._session.open_tomogram(path, voxel_size=voxel_size)
        except VoxelSizeError as error:
            if self.question.is_open:
                self._waiting.append(path)  # its turn comes after the answer
                return
            self.question.ask(error, lambda size: self._answer(path, size))
        except EctkdError as error:
            self._session.said.emit(str(error), True)
        else:
            text = f"Opened {tomogram.name}"
            if n := len(self._session.picks(tomogram.name)):
                text += f"; its {n} picks are back"
            self._session.said.emit(text, False)
            if len(self._session.tomograms) > n_before:
                # napari looks at the first image alone; another may be larger.
                viewer = self._session.viewer
                viewer.dims.set_point(0, tomogram.extent[0] / 2)
                viewer.reset_view()

    def _answer(self, path: Path, voxel_size: float) -> None:
        self._open(path, voxel_size)
        self._open_next()

    def _set_contrast(self, is_dark: bool) -> None:
        current = self._session.current
        if current is not None:
            self._session.state(current.with_contrast(is_inverted=is_dark))

    def _set_tilt(self) -> None:
        current = self._session.current
        if current is None:
            return
        tilt_range = None
        if self.knows_tilt.isChecked():
            tilt_range = (self.lowest.value(), self.highest.value())
            if tilt_range[0] >= tilt_range[1]:
                return
        self._session.state(current.with_tilt_range(tilt_range))


def _degrees(value: float) -> QDoubleSpinBox:
    return QDoubleSpinBox(decimals=0, minimum=-90, maximum=90, value=value, suffix="°")
