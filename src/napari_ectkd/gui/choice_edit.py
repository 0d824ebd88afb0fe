"""An editor that chooses one of several values."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QSizePolicy,
    QStyle,
    QStyleOptionComboBox,
    QToolTip,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtGui import QWheelEvent


class ChoiceEdit(QComboBox):
    """One of several values, each shown by a title."""

    valueChanged = Signal(object)

    def __init__(self, choices: Sequence[tuple[Any, str]]) -> None:
        super().__init__()
        self.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.setMinimumContentsLength(8)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._values: list[Any] = []
        self.setChoices(choices)
        self.currentIndexChanged.connect(lambda: self.valueChanged.emit(self.value()))

    def setNothing(self, text: str) -> None:
        """Say in gray why there is nothing to choose."""
        self.setPlaceholderText(text)

    def setChoices(self, choices: Sequence[tuple[Any, str]]) -> None:
        """Offer other values; keep the chosen one if it is among them."""
        before = self.value()
        self.blockSignals(True)
        self.clear()
        self._values = [value for value, _ in choices]
        for row, (_, title) in enumerate(choices):
            self.addItem(title)
            self.setItemData(row, title, Qt.ItemDataRole.ToolTipRole)
        if before in self._values:
            self.setCurrentIndex(self._values.index(before))
        elif self._values:
            self.setCurrentIndex(0)  # Qt itself does so unless there is a placeholder
        self.blockSignals(False)
        if self.value() != before:
            self.valueChanged.emit(self.value())

    def value(self) -> Any:
        """Return the chosen value; None if there is none to choose."""
        index = self.currentIndex()
        return self._values[index] if 0 <= index < len(self._values) else None

    def setValue(self, value: Any) -> None:
        """Choose a value; one that was not offered is added."""
        if value not in self._values:
            self._values.append(value)
            self.addItem(str(value))
        self.setCurrentIndex(self._values.index(value))

    def showPopup(self) -> None:
        """Open the list wide enough for its titles, as the box itself need not be."""
        view = self.view()
        room = view.verticalScrollBar().sizeHint().width()
        view.setMinimumWidth(view.sizeHintForColumn(0) + room)
        super().showPopup()

    def event(self, event: QEvent) -> bool:
        """Say the whole title in the tooltip where the box has no room for it."""
        if event.type() == QEvent.Type.ToolTip and self._is_cut_off():
            about = self.toolTip().removeprefix("<qt>").removesuffix("</qt>")
            text = f"<qt>{escape(self.currentText())}<br>{about}</qt>"
            QToolTip.showText(event.globalPos(), text, self)
            return True
        return bool(super().event(event))

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Let the wheel scroll the panel unless the editor was chosen."""
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()

    def _is_cut_off(self) -> bool:
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        part = QStyle.SubControl.SC_ComboBoxEditField
        control = QStyle.ComplexControl.CC_ComboBox
        room = self.style().subControlRect(control, option, part, self).width()
        text = self.fontMetrics().horizontalAdvance(self.currentText())
        return bool(text > room)
