"""`ectkd doctor` in a window: what of this machine works, and what to do if not."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QDialog, QDialogButtonBox, QLabel, QVBoxLayout

from napari_ectkd.gui.jobs import Job
from napari_ectkd.gui.status import JobStatus
from napari_ectkd.gui.wording import in_window

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

_SIGNS = {"good": ("✓", "#7bd88f"), "note": ("–", "#f4a259"), "bad": ("✗", "#ff6b6b")}


class SetupCheck(QDialog):
    """Runs the doctor in a process of its own, and shows its findings."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Check my setup")
        self.setMinimumWidth(520)
        self.findings = QLabel(wordWrap=True)
        self.job = Job(self)
        self.status = JobStatus(self.job)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.addWidget(QLabel("A real computation on each device, and versions:"))
        layout.addWidget(self.findings)
        layout.addWidget(self.status)
        layout.addStretch(1)
        layout.addWidget(buttons)
        self.job.done.connect(self._show)
        self.job.ended.connect(self._clean)
        self._folder = Path(tempfile.mkdtemp(prefix="ectkd-doctor-"))
        self.job.start(["doctor", "--job", str(self._folder)], self._folder)
        self.status.clear()

    def done(self, result: int) -> None:
        """Close; a check that is not over is stopped."""
        self.job.stop(1.0)
        super().done(result)

    def _show(self, result: dict[str, Any]) -> None:
        self.status.say("")
        rows = []
        for found in result["findings"]:
            sign, color = _SIGNS[found["verdict"]]
            rows.append(
                f"<p><b style='color: {color}'>{sign} {_plain(found['what'])}</b><br>"
                f"{_plain(in_window(found['text']))}</p>"
            )
        self.findings.setText("".join(rows))
        self.adjustSize()

    def _clean(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _plain(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
