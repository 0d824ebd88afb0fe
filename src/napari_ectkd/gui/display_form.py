"""How the current tomogram is shown; nothing of it changes what a model sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QPushButton,
    QWidget,
)

from napari_ectkd.gui.display import DisplayedVolume

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_ectkd.gui.session import Session


class DisplayForm(QWidget):
    """Low-pass, slab, inversion and contrast of the current tomogram's image."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.low_pass = _length(400)
        self.low_pass.setSpecialValueText("off")
        self.low_pass.setToolTip("<qt>Detail finer than this fades</qt>")
        self.slab = _length(1000)
        self.slab.setSpecialValueText("one plane")
        self.slab.setToolTip("<qt>Each slice is the mean over this thickness</qt>")
        self.invert = QCheckBox("Show protein dark")
        self.contrast_button = QPushButton("Fit contrast")
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addRow("Low-pass", self.low_pass)
        layout.addRow("Slab", self.slab)
        row = QHBoxLayout()
        row.addWidget(self.invert)
        row.addStretch(1)
        row.addWidget(self.contrast_button)
        layout.addRow(row)
        for signal in (
            self.low_pass.valueChanged,
            self.slab.valueChanged,
            self.invert.toggled,
            self.contrast_button.clicked,
        ):
            signal.connect(self._apply)
        session.current_changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show how the current tomogram is shown."""
        image = self._image()
        self.setEnabled(image is not None)
        if image is None:
            return
        settings = image.data.settings
        for editor, value in (
            (self.low_pass, settings.low_pass),
            (self.slab, settings.slab),
        ):
            with QSignalBlocker(editor):
                editor.setValue(value)
        with QSignalBlocker(self.invert):
            self.invert.setChecked(settings.is_negative)

    def _image(self) -> Image | None:
        current = self._session.current
        layer = self._session.layers.image(current.name) if current else None
        if layer is None or not isinstance(layer.data, DisplayedVolume):
            return None
        return layer

    def _apply(self) -> None:
        image = self._image()
        if image is None:
            return
        settings = image.data.settings
        settings.low_pass = self.low_pass.value()
        settings.slab = self.slab.value()
        settings.is_negative = self.invert.isChecked()
        limits = image.data.contrast_limits()
        image.contrast_limits_range = limits
        image.contrast_limits = limits
        image.refresh()


def _length(highest: float) -> QDoubleSpinBox:
    return QDoubleSpinBox(
        decimals=0, minimum=0, maximum=highest, singleStep=10, suffix=" Å"
    )
