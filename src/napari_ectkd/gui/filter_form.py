"""Which picks are shown: confidence, a box and a mask; at once, and changing none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QLabeledDoubleSlider, QRangeSlider

from napari_ectkd.errors import EctkdError
from napari_ectkd.gui.panel import set_problem
from napari_ectkd.prediction.mask import Mask

if TYPE_CHECKING:
    from napari_ectkd.gui.session import Session

_WARNING = "color: #f4a259"


class FilterForm(QWidget):
    """Edits how the picks of a session are shown."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.confidence = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.fade_box = QCheckBox("Draw unsure predictions fainter")
        self.region_box = QCheckBox("Only inside a box")
        self.ranges = [QRangeSlider(Qt.Orientation.Horizontal) for _ in "zyx"]
        self.limits = [QLabel() for _ in "zyx"]
        self.mask_button = QPushButton("Only inside a mask…")
        self.no_mask_button = QPushButton("No mask")
        self.said = QLabel(wordWrap=True)
        self._sides = QWidget()
        self._warning = ""
        self._build()
        session.current_changed.connect(lambda: self._say(""))
        session.current_changed.connect(self.refresh)
        session.overlay_changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show the settings of now, and the size of the current tomogram."""
        session = self._session
        overlay, tomogram = session.overlay, session.current
        with QSignalBlocker(self.confidence), QSignalBlocker(self.fade_box):
            self.confidence.setValue(overlay.min_confidence)
            self.fade_box.setChecked(overlay.is_faded)
        self.region_box.setEnabled(tomogram is not None)
        if tomogram is not None:
            extent = [round((n - 1) * tomogram.voxel_size) for n in tomogram.shape]
            for slider, last in zip(self.ranges, extent, strict=True):
                if slider.maximum() != last:
                    with QSignalBlocker(slider):
                        slider.setRange(0, last)
                        slider.setValue((0, last))
        for slider, text in zip(self.ranges, self.limits, strict=True):
            text.setText("{:,.0f} – {:,.0f} Å".format(*slider.value()))
        self._sides.setVisible(self.region_box.isChecked())
        problem = "" if tomogram else "Open a tomogram first"
        set_problem(
            self.mask_button,
            problem,
            "Show the picks where a volume of the tomogram's shape is above 0",
        )
        mask = overlay.masks.get(tomogram.name) if tomogram else None
        self.no_mask_button.setVisible(mask is not None)
        if not self._warning:
            self._say(f"Mask: {mask.path.name}" if mask else "")

    def set_mask(self, path: Path | None) -> None:
        """Show the current tomogram's picks where a mask is above 0, or everywhere."""
        tomogram = self._session.current
        masks = dict(self._session.overlay.masks)
        mask = None
        if path is not None:
            try:
                mask = Mask.open(path, tomogram)
            except EctkdError as error:  # an earlier mask stays
                self._say(str(error), is_warning=True)
                return
        masks.pop(tomogram.name, None)
        if mask is not None:
            masks[tomogram.name] = mask
        self._say("")
        self._session.set_overlay(masks=masks)
        places = self._session.picks(tomogram.name).positions / tomogram.voxel_size
        if mask is not None and len(places) and not mask.is_inside(places).any():
            text = f"Mask: {path.name}; no pick lies where it is above 0"
            self._say(text, is_warning=True)

    def _say(self, text: str, *, is_warning: bool = False) -> None:
        """Show a line; a warning stays until a mask is chosen or taken away."""
        self._warning = text if is_warning else ""
        self.said.setStyleSheet(_WARNING if is_warning else "")
        self.said.setText(text)
        self.said.setVisible(bool(text))

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.confidence.setRange(0, 1)
        self.confidence.setDecimals(2)
        self.confidence.setSingleStep(0.01)
        self.confidence.setToolTip(
            "<qt>Predictions less confident than this are shown as unknown</qt>"
        )
        row = QFormLayout()
        row.addRow("Confidence from", self.confidence)
        layout.addLayout(row)
        layout.addWidget(self.fade_box)
        layout.addWidget(self.region_box)
        sides = QFormLayout(self._sides)
        sides.setContentsMargins(0, 0, 0, 0)
        for name, slider, text in zip("zyx", self.ranges, self.limits, strict=True):
            side = QVBoxLayout()
            side.setSpacing(0)
            side.addWidget(slider)
            side.addWidget(text)
            sides.addRow(name, side)
            slider.valueChanged.connect(self._set_region)
        layout.addWidget(self._sides)
        buttons = QHBoxLayout()
        buttons.addWidget(self.mask_button, 1)
        buttons.addWidget(self.no_mask_button)
        layout.addLayout(buttons)
        layout.addWidget(self.said)
        change = self._session.set_overlay
        self.confidence.valueChanged.connect(lambda v: change(min_confidence=v))
        self.fade_box.toggled.connect(lambda is_on: change(is_faded=is_on))
        self.region_box.toggled.connect(self._set_region)
        self.mask_button.clicked.connect(self._choose_mask)
        self.no_mask_button.clicked.connect(lambda: self.set_mask(None))

    def _set_region(self) -> None:
        region = None
        if self.region_box.isChecked():
            region = np.array([slider.value() for slider in self.ranges], float).T
        self._session.set_overlay(region=region)

    def _choose_mask(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Show picks inside a mask", "", "Volumes (*.mrc *.rec *.map *.tif)"
        )
        if path:
            self.set_mask(Path(path))
