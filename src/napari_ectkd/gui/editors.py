"""Editors of one value: each has `value()`, `setValue(value)`, `valueChanged`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QValidator
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QToolButton,
    QWidget,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtGui import QWheelEvent


class IntEdit(QSpinBox):
    """A whole number."""

    def __init__(self, low: int = 0, high: int = 10**9, unit: str = "") -> None:
        super().__init__()
        self.setRange(low, high)
        self.setSuffix(f" {unit}" if unit else "")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Let the wheel scroll the panel unless the editor was chosen."""
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()


class FloatEdit(QDoubleSpinBox):
    """A number, shown and kept with all of its digits."""

    def __init__(
        self, low: float = -1e9, high: float = 1e9, unit: str = "", step: float = 0
    ) -> None:
        super().__init__()
        self.setDecimals(60)
        self.setRange(low, high)
        self.setSuffix(f" {unit}" if unit else "")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._step = step

    def textFromValue(self, value: float) -> str:
        """Return the shortest text that is exactly this number."""
        return str(int(value)) if value == int(value) else repr(value)

    def valueFromText(self, text: str) -> float:
        """Return the number of a text, with or without its unit."""
        return float(text.removesuffix(self.suffix()).replace(",", "."))

    def validate(self, text: str, position: int) -> tuple[QValidator.State, str, int]:
        """Accept what is a number in range; let anything else be typed on."""
        try:
            number = self.valueFromText(text)
        except ValueError:
            return QValidator.State.Intermediate, text, position
        fits = self.minimum() <= number <= self.maximum()
        state = QValidator.State.Acceptable if fits else QValidator.State.Intermediate
        return state, text, position

    def stepBy(self, steps: int) -> None:
        """Step by a fixed amount, or by a unit of the leading digit."""
        step = self._step or 10.0 ** math.floor(math.log10(abs(self.value()) or 0.01))
        self.setValue(float(f"{self.value() + steps * step:.12g}"))

    def sizeHint(self) -> Any:
        """Return room for few digits; 60 decimals would fill the panel."""
        hint = super().sizeHint()
        hint.setWidth(90)
        return hint

    def minimumSizeHint(self) -> Any:
        """Return the same as `sizeHint`."""
        return self.sizeHint()

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Let the wheel scroll the panel unless the editor was chosen."""
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()


class BoolEdit(QCheckBox):
    """Yes or no."""

    valueChanged = Signal(bool)

    def __init__(self) -> None:
        super().__init__()
        self.toggled.connect(self.valueChanged)

    def value(self) -> bool:
        """Return whether it is checked."""
        return self.isChecked()

    def setValue(self, value: bool) -> None:
        """Check it or not."""
        self.setChecked(value)


class TextEdit(QLineEdit):
    """A line of text."""

    valueChanged = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.textChanged.connect(self.valueChanged)

    def value(self) -> str:
        """Return the text."""
        return self.text()

    def setValue(self, value: str) -> None:
        """Show a text."""
        self.setText(value)


class RangeEdit(QWidget):
    """Two numbers, low and high."""

    valueChanged = Signal(object)

    def __init__(self, unit: str = "") -> None:
        super().__init__()
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._low, self._high = FloatEdit(unit=unit), FloatEdit(unit=unit)
        for edit in (self._low, self._high):
            layout.addWidget(edit)
            edit.valueChanged.connect(lambda: self.valueChanged.emit(self.value()))

    def value(self) -> tuple[float, float]:
        """Return both numbers."""
        return self._low.value(), self._high.value()

    def setValue(self, value: tuple[float, float]) -> None:
        """Show both numbers."""
        self._low.setValue(value[0])
        self._high.setValue(value[1])


class ShapeEdit(QWidget):
    """Voxels along z, y and x."""

    valueChanged = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        self._edits = [IntEdit(1, 10**5) for _ in range(3)]
        for axis, edit in zip("zyx", self._edits, strict=True):
            edit.setPrefix(f"{axis} ")
            edit.setButtonSymbols(QSpinBox.ButtonSymbols.NoButtons)  # three in a row
            edit.setMinimumWidth(60)
            layout.addWidget(edit, 1)
            edit.valueChanged.connect(lambda: self.valueChanged.emit(self.value()))

    def value(self) -> tuple[int, ...]:
        """Return the three numbers."""
        return tuple(edit.value() for edit in self._edits)

    def setValue(self, value: tuple[int, ...]) -> None:
        """Show three numbers."""
        for edit, n in zip(self._edits, value, strict=True):
            edit.setValue(n)


class PathsEdit(QWidget):
    """Files or folders, each added by a dialog; at most `limit` of them."""

    valueChanged = Signal(object)

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()
        self._limit = limit
        self._paths: list[Path] = []
        self._shown = QLineEdit(readOnly=True)
        self._shown.setPlaceholderText("none chosen")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._shown, 1)
        for text, slot in (("Folder…", self._add_folder), ("File…", self._add_file)):
            button = QPushButton(text)
            button.clicked.connect(slot)
            layout.addWidget(button)
        if limit != 1:
            clear = QToolButton(text="×")
            clear.setToolTip("Forget them all")
            clear.clicked.connect(lambda: self.setValue([]))
            layout.addWidget(clear)

    def value(self) -> list[Path]:
        """Return the paths."""
        return list(self._paths)

    def setValue(self, value: Sequence[Path]) -> None:
        """Show other paths."""
        kept = list(value)[-self._limit :] if self._limit else value
        self._paths = [Path(path) for path in kept]
        self._shown.setText("; ".join(str(path) for path in self._paths))
        self._shown.setToolTip("\n".join(str(path) for path in self._paths))
        self.valueChanged.emit(self.value())

    def _add_folder(self) -> None:
        if path := QFileDialog.getExistingDirectory(self, "Choose a folder"):
            self.setValue([*self._paths, Path(path)])

    def _add_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Choose a file")
        if path:
            self.setValue([*self._paths, Path(path)])


class PathEdit(PathsEdit):
    """One file or folder."""

    def __init__(self) -> None:
        super().__init__(limit=1)

    def value(self) -> Path | None:
        """Return the path; None before one was chosen."""
        return self._paths[0] if self._paths else None

    def setValue(self, value: Path | Sequence[Path] | None) -> None:
        """Show another path."""
        paths = [value] if isinstance(value, Path) else value or []
        super().setValue(paths)


class OptionalEdit(QWidget):
    """Another editor's value, or None: `automatic`."""

    valueChanged = Signal(object)

    def __init__(self, editor: QWidget) -> None:
        super().__init__()
        self._editor = editor
        self._is_automatic = QCheckBox("automatic")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(editor, 1)
        layout.addWidget(self._is_automatic)
        editor.valueChanged.connect(lambda: self.valueChanged.emit(self.value()))
        # A number beside the tick would say something that is not so.
        self._is_automatic.toggled.connect(editor.setHidden)
        self._is_automatic.toggled.connect(lambda: self.valueChanged.emit(self.value()))
        self._is_automatic.setChecked(True)

    def value(self) -> Any:
        """Return the editor's value, or None."""
        return None if self._is_automatic.isChecked() else self._editor.value()

    def suggest(self, value: Any) -> None:
        """Say what automatic comes to: where the user starts from who takes it away."""
        if self._is_automatic.isChecked():
            self._editor.blockSignals(True)
            self._editor.setValue(value)
            self._editor.blockSignals(False)

    def setValue(self, value: Any) -> None:
        """Show a value, or `automatic` for None."""
        self.blockSignals(True)
        # First, so that what is suggested meanwhile does not take its place.
        self._is_automatic.setChecked(value is None)
        if value is not None:
            self._editor.setValue(value)
        self.blockSignals(False)
        self.valueChanged.emit(self.value())
