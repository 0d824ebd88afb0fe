"""What one job is doing: a bar, a message, the time left, and a Cancel button."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_ectkd.events import EpochEnd, Noted, Progress
from napari_ectkd.gui.later import later
from napari_ectkd.gui.wording import in_window

if TYPE_CHECKING:
    from napari_ectkd.events import Event
    from napari_ectkd.gui.jobs import Job

_WARNING = "#f4a259"
_ERROR = "#ff6b6b"
_LINES = 3
"""Warnings shown at once; the curves are not to be pushed off the screen."""


class JobStatus(QWidget):
    """Shows a job from its start to its end.

    Parameters
    ----------
    job
        It may have begun already.
    """

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job
        self._warnings: list[str] = []
        self.is_error = False
        self._share = 0, 0
        self._later = later(self, self._draw)
        self.bar = QProgressBar(textVisible=False)
        self.bar.setMaximumHeight(12)
        self.message = _text()
        self.warnings = _text(_WARNING)
        self.figures = _text()
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.clicked.connect(self._cancel)
        self.details_button = QPushButton("Details", checkable=True)
        self.details = QPlainTextEdit(readOnly=True)
        self.details.setMaximumHeight(160)
        self.details_button.toggled.connect(self.details.setVisible)
        self._build()
        job.progressed.connect(self._show)
        job.failed.connect(self._failed)
        job.cancelled.connect(lambda: self.say("Cancelled. What it had saved is kept."))
        job.ended.connect(self._ended)
        self.clear()
        for event in job.history:
            self._show(event)

    def clear(self) -> None:
        """Forget an earlier job; tell whether a job is at work."""
        self._warnings.clear()
        self.warnings.hide()
        self.figures.hide()
        self.details_button.setChecked(False)
        self.details_button.hide()
        self.details.hide()
        is_active = self._job.is_active
        self.bar.setVisible(is_active)
        self._later.stop()
        self.bar.setRange(0, 0)  # it moves until the first event says how far it is
        self.cancel_button.setVisible(is_active)
        self.cancel_button.setEnabled(is_active)
        begins = "In a scheduler's queue…" if self._job.is_waiting else "Starting…"
        self.say(begins if is_active else "")

    def say(self, text: str, *, is_error: bool = False) -> None:
        """Show a message."""
        self.is_error = is_error
        self.message.setText(in_window(text))
        self.message.setStyleSheet(f"color: {_ERROR}" if is_error else "")
        self.message.setVisible(bool(text))

    def warn(self, text: str) -> None:
        """Show a warning besides the message; each text once."""
        text = in_window(text)
        if text not in self._warnings:
            self._warnings.append(text)
            lines = self._warnings[: -_LINES - 1 : -1]  # the newest first
            more = len(self._warnings) - _LINES
            lines += [f"and {more} more; see the tooltip"] if more > 0 else []
            self.warnings.setText("\n".join(f"⚠ {line}" for line in lines))
            told = "<br>".join(f"⚠ {escape(text)}" for text in self._warnings)
            self.warnings.setToolTip(f"<qt>{told}</qt>")
            self.warnings.show()

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        row = QHBoxLayout()
        row.addWidget(self.bar, 1)
        row.addWidget(self.cancel_button)
        layout.addLayout(row)
        layout.addWidget(self.message)
        layout.addWidget(self.figures)
        layout.addWidget(self.warnings)
        layout.addWidget(self.details_button, 0, Qt.AlignmentFlag.AlignLeft)
        layout.addWidget(self.details)

    def _show(self, event: Event) -> None:
        if isinstance(event, Progress):
            self._move(event.done, event.total)
            what = f"{event.stage} {event.of}".rstrip()
            self.say(_sentence(what, event.seconds_left))
        elif isinstance(event, EpochEnd):
            self._move(event.epoch, event.epochs)
            text = f"Epoch {event.epoch} of {event.epochs}"
            self.say(_sentence(text, event.seconds_left))
            self.figures.setText(_figures(event.metrics))
            self.figures.setVisible(bool(self.figures.text()))
        elif isinstance(event, Noted):
            if event.is_warning:
                self.warn(event.text)
            else:
                self.say(event.text)
        if self._job.is_cancelling:
            self.say("Stopping…")

    def _move(self, done: int, total: int) -> None:
        self._share = done, total
        self._later.start()  # the bar draws itself at once whenever it is set

    def _draw(self) -> None:
        done, total = self._share
        self.bar.setRange(0, max(total, 1))
        self.bar.setValue(done)

    def _cancel(self) -> None:
        self._job.cancel()
        self.cancel_button.setEnabled(False)
        self.say("Stopping…")

    def _failed(self, message: str) -> None:
        self.say(message, is_error=True)
        self.details.setPlainText(self._job.details)
        self.details_button.setVisible(bool(self._job.details))

    def _ended(self) -> None:
        self.bar.hide()
        self.cancel_button.hide()


def duration(seconds: float) -> str:
    """Return a time in words (`3 min 20 s`)."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _figures(metrics: dict[str, float]) -> str:
    """Return how fast a run learns, and with how much memory, in one line."""
    parts = []
    if "per_second" in metrics:
        parts.append(f"{metrics['per_second']:,.0f} subtomograms/s")
    if "learning_rate" in metrics:
        parts.append(f"learning rate {metrics['learning_rate']:.2g}")
    if "memory_gib" in metrics:
        parts.append(f"{metrics['memory_gib']:.1f} GiB used")
    return " · ".join(parts)


def _sentence(text: str, seconds_left: float | None) -> str:
    text = text[:1].upper() + text[1:]
    return text if seconds_left is None else f"{text}, {duration(seconds_left)} left"


def _text(color: str = "") -> QLabel:
    label = QLabel(wordWrap=True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    if color:
        label.setStyleSheet(f"color: {color}")
    return label
