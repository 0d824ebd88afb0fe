"""Asks how large a voxel is, where a file does not say; never a dialog that blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class VoxelSizeQuestion(QWidget):
    """A line of text, a number in Å and two buttons; hidden unless it asks."""

    skipped = Signal()
    """Nobody knows, and the file is left alone."""

    def __init__(self, button_text: str) -> None:
        super().__init__()
        self.text = QLabel(wordWrap=True)
        self.voxel_size = QDoubleSpinBox(
            decimals=3, minimum=0.2, maximum=200, value=10, suffix=" Å"
        )
        self.answer_button = QPushButton(button_text)
        self.skip_button = QPushButton("Skip")
        self.skip_button.setToolTip("Leave this file alone")
        self._on_answer: Callable[[float], None] | None = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.text)
        row = QHBoxLayout()
        row.addWidget(self.voxel_size)
        row.addWidget(self.answer_button, 1)
        row.addWidget(self.skip_button)
        layout.addLayout(row)
        self.answer_button.clicked.connect(self._answer)
        self.skip_button.clicked.connect(self._skip)
        self.hide()

    @property
    def is_open(self) -> bool:
        """Whether it waits for an answer."""
        return self._on_answer is not None

    def ask(self, error: Exception, on_answer: Callable[[float], None]) -> None:
        """Ask for what an error says is missing; call `on_answer` with Å per voxel."""
        problem = str(error).split("; state it")[0]
        self.text.setText(f"{problem}. How large is a voxel?")
        self._on_answer = on_answer
        self.show()

    def _answer(self) -> None:
        on_answer, self._on_answer = self._on_answer, None
        self.hide()
        if on_answer is not None:
            on_answer(self.voxel_size.value())

    def _skip(self) -> None:
        self._on_answer = None
        self.hide()
        self.skipped.emit()
