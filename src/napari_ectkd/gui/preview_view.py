"""A picture of each class of a simulation: three central slices of a subtomogram."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QLabel,
    QVBoxLayout,
    QWidget,
)

from napari_ectkd.gui.slice_picture import class_caption, slice_picture

if TYPE_CHECKING:
    from napari_ectkd.gui.palette import Palette
    from napari_ectkd.simulation.preview import Preview

_EDGE_PX = 84
_PLANES = {
    "x–y": "seen along the beam",
    "x–z": "seen along the tilt axis: here the missing wedge shows",
    "y–z": "seen across the tilt axis",
}


class PreviewView(QWidget):
    """The x–y, x–z and y–z slices of one subtomogram a class, on one gray scale.

    Parameters
    ----------
    palette
        Gives the names their colors.
    """

    def __init__(self, palette: Palette) -> None:
        super().__init__()
        self._palette = palette
        self._preview: Preview | None = None
        self.with_noise = QCheckBox("with noise")
        self.with_noise.setChecked(True)
        self.with_noise.toggled.connect(self._draw)
        self.note = QLabel(wordWrap=True)
        self.pictures: dict[str, list[QLabel]] = {}
        self._grid = QGridLayout()
        self._grid.setSpacing(3)
        self._grid.setColumnStretch(0, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.with_noise)
        layout.addWidget(self.note)
        layout.addLayout(self._grid)
        self.note.hide()

    def show_preview(self, preview: Preview) -> None:
        """Show another preview."""
        self._preview = preview
        self.say("")
        self._draw()

    def say(self, text: str) -> None:
        """Say why there is no newer picture, or nothing."""
        self.note.setText(text)
        self.note.setVisible(bool(text))

    def _draw(self) -> None:
        preview = self._preview
        if preview is None:
            return
        self._lay_out(preview.classes)
        volumes = preview.volumes if self.with_noise.isChecked() else preview.signal
        low, high = np.percentile(volumes, [0.5, 99.5])
        middle = volumes.shape[1] // 2
        for name, volume in zip(preview.classes, volumes, strict=True):
            slices = (volume[middle], volume[:, middle], volume[:, :, middle])
            for label, gray in zip(self.pictures[name], slices, strict=True):
                label.setPixmap(slice_picture(gray, low, high, _EDGE_PX))

    def _lay_out(self, classes: list[str]) -> None:
        """Make the labels of these classes, unless they are there already."""
        if list(self.pictures) == classes:
            return
        while self._grid.count():
            self._grid.takeAt(0).widget().deleteLater()
        self.pictures.clear()
        for column, (plane, text) in enumerate(_PLANES.items(), start=1):
            title = QLabel(plane)
            title.setAlignment(Qt.AlignmentFlag.AlignCenter)
            title.setToolTip(text)
            self._grid.addWidget(title, 0, column)
        for row, name in enumerate(classes, start=1):
            caption = class_caption(name, self._palette.color(name), 12)
            self._grid.addWidget(caption, row, 0)
            self.pictures[name] = []
            for column in range(1, len(_PLANES) + 1):
                picture = QLabel()
                picture.setFixedSize(_EDGE_PX, _EDGE_PX)
                self._grid.addWidget(picture, row, column)
                self.pictures[name].append(picture)
