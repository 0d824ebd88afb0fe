"""A run's model as one file: for this package, or for programs that do not know it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QFileDialog, QMessageBox, QVBoxLayout, QWidget

from napari_ectkd.errors import EctkdError
from napari_ectkd.gui.status import JobStatus
from napari_ectkd.training.run_list import export_model

if TYPE_CHECKING:
    from napari_ectkd.gui.open_jobs import Jobs

_ENDINGS = {
    "Model of this package (*.safetensors)": ".safetensors",
    "ONNX, for any program (*.onnx)": ".onnx",
    "Program of torch.export (*.pt2)": ".pt2",
}
_FORMATS = {".onnx": "onnx", ".pt2": "torch"}
"""What another process writes and compares with the original, by ending."""


class ModelExport(QWidget):
    """Asks where to, writes, and says what was written.

    Parameters
    ----------
    jobs
        Of the window.
    """

    def __init__(self, jobs: Jobs) -> None:
        super().__init__()
        self.job = jobs.job("Export")
        self.status = JobStatus(self.job)
        self._folder: Path | None = None
        """Of the job that was started here."""
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.status)
        self.job.done.connect(self._on_done)
        self.job.ended.connect(self._on_ended)
        self.hide()

    def ask(self, run: Path) -> None:
        """Ask for a file, and write the model of a run to it."""
        name, kind = QFileDialog.getSaveFileName(
            self, "Export model", str(Path.home() / run.name), ";;".join(_ENDINGS)
        )
        if not name:
            return
        out = with_ending(Path(name), kind)
        # The dialog asked of the name that was typed.
        if out.name != Path(name).name and out.exists():
            question = f"{out.name} is there already. Replace it?"
            answer = QMessageBox.question(self, "Export model", question)
            if answer != QMessageBox.StandardButton.Yes:
                return
        self.write(run, out)

    def write(self, run: Path, out: Path) -> None:
        """Write the model of a run to a file, as its ending says."""
        self.show()
        self.status.clear()
        try:
            if out.suffix in _FORMATS:
                self._start(run, out)
            else:
                written = export_model(run, out)
                self.status.say(f"Wrote {' and '.join(path.name for path in written)}")
        except EctkdError as error:
            self.status.say(str(error), is_error=True)

    def _start(self, run: Path, out: Path) -> None:
        folder = Path(tempfile.mkdtemp(prefix="ectkd-export-"))
        command = ["export", str(run), "--out", str(out.absolute())]
        command += ["--format", _FORMATS[out.suffix], "--job", str(folder)]
        self._folder = folder
        self.job.start(command, folder)
        self.status.clear()

    def _on_done(self, result: dict[str, Any]) -> None:
        if self._folder is None:
            return  # another panel of this window started it
        [file] = result["files"]
        self.status.say(
            f"Wrote {Path(file['path']).name}, {file['size_bytes'] / 1e3:,.0f} kB. It "
            "was run again, and its logits differ from the original's by "
            f"{file['largest_difference']:.1e} at most."
        )

    def _on_ended(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def with_ending(path: Path, kind: str) -> Path:
    """Return a file's name with the ending of the kind chosen, unless it says one."""
    if path.suffix in _ENDINGS.values():
        return path
    return path.with_name(path.name + _ENDINGS.get(kind, ".safetensors"))
