"""A picture of what the network sees: slices of augmented subtomograms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtWidgets import QGridLayout, QLabel, QVBoxLayout, QWidget

from napari_ectkd.errors import FormatError
from napari_ectkd.gui.slice_picture import class_caption, slice_picture
from napari_ectkd.runs import Run
from napari_ectkd.training.examples import load_examples

if TYPE_CHECKING:
    from pathlib import Path

    from napari_ectkd.gui.palette import Palette

_COLUMNS = 4
_EDGE_PX = 76
_MOST = 12


class ExampleView(QWidget):
    """The central slices of some subtomograms as the network gets them, with classes.

    Parameters
    ----------
    palette
        Gives the names their colors.
    """

    def __init__(self, palette: Palette) -> None:
        super().__init__()
        self._palette = palette
        self.pictures: list[QLabel] = []
        self.note = QLabel(wordWrap=True)
        self._grid = QGridLayout()
        self._grid.setSpacing(4)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.note)
        layout.addLayout(self._grid)
        self.clear()

    def clear(self) -> None:
        """Show nothing but when there will be something."""
        while self._grid.count():
            self._grid.takeAt(0).widget().deleteLater()
        self.pictures.clear()
        self.note.setText("Shown once a run has begun.")

    def show_run(self, path: Path) -> None:
        """Show the examples that a run saved."""
        self.clear()
        try:
            examples = load_examples(Run(path))
        except FormatError as error:
            self.note.setText(str(error))
            return
        if examples is None:
            return
        self.note.setText("Slices across z, as turned, shifted and varied in training:")
        low, high = np.percentile(examples.slices, [1, 99])
        pairs = zip(examples.slices[:_MOST, 0], examples.label[:_MOST], strict=True)
        for number, (gray, name) in enumerate(pairs):
            row, column = divmod(number, _COLUMNS)
            picture = QLabel()
            picture.setPixmap(slice_picture(gray, low, high, _EDGE_PX))
            picture.setToolTip(name)
            caption = class_caption(name, self._palette.color(name), 9)
            self._grid.addWidget(picture, 2 * row, column)
            self._grid.addWidget(caption, 2 * row + 1, column)
            self.pictures.append(picture)
