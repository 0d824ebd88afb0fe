"""The runs of a project: followed live, compared, resumed, duplicated, exported."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QFileDialog,
    QGridLayout,
    QLabel,
    QMessageBox,
    QPushButton,
)

from napari_ectkd.distillation.front import trial_runs
from napari_ectkd.errors import EctkdError
from napari_ectkd.events import EpochEnd, Saved
from napari_ectkd.gui.compare_curves import CompareCurves
from napari_ectkd.gui.duplicate_dialog import DuplicateDialog
from napari_ectkd.gui.example_view import ExampleView
from napari_ectkd.gui.jobs import Job
from napari_ectkd.gui.model_export import ModelExport
from napari_ectkd.gui.panel import Panel, set_problem
from napari_ectkd.gui.run_actions import (
    why_no_card,
    why_no_model,
    why_not_cancelled,
    why_not_deleted,
    why_not_resumed,
)
from napari_ectkd.gui.run_table import RunsInFolder, RunTable
from napari_ectkd.gui.session import Session
from napari_ectkd.gui.setup_check import SetupCheck
from napari_ectkd.gui.status import JobStatus
from napari_ectkd.runs import Run
from napari_ectkd.training.card import SETTINGS_HEADING
from napari_ectkd.training.run_list import delete_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    import napari

    from napari_ectkd.events import Event
    from napari_ectkd.training.run_list import FoundRun

_INTERVAL_MS = 1000
_JOBS = {"train": "Training", "refine": "Training", "distill": "Distillation"}
"""Titles of the jobs that the other panels show, by what a run is."""


class RunsPanel(Panel):
    """Lists the runs of the project, and does what can be done with them."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self.session = Session.of(napari_viewer)
        self.watched = Job(self)
        """Follows a run that this panel need not have started; never stops it."""
        self._found = RunsInFolder()
        self._runs: list[FoundRun] = []
        self._elsewhere: Path | None = None
        self._awaited: Path | None = None
        self._begun: Path | None = None
        self.table = RunTable()
        self.folder_button = QPushButton("Folder…")
        self.attach_button = QPushButton("Follow")
        self.resume_button = QPushButton("Resume")
        self.cancel_button = QPushButton("Cancel")
        self.duplicate_button = QPushButton("Duplicate…")
        self.export_button = QPushButton("Export model…")
        self.card_button = QPushButton("Model card")
        self.delete_button = QPushButton("Delete…")
        self.setup_button = QPushButton("Check my setup")
        self.watched_name = QLabel()
        self.status = JobStatus(self.watched)
        self.exporting = ModelExport(self.jobs)
        self.card = QLabel(wordWrap=True)
        self.curves = CompareCurves()
        self.examples = ExampleView(self.session.palette)
        self._timer = QTimer(self)
        self._timer.setInterval(_INTERVAL_MS)
        self._build()
        self._connect()
        self.refresh()
        self._timer.start()

    def runs_folder(self) -> Path | None:
        """Return the folder whose runs are listed."""
        return self._elsewhere or self.session.runs_folder()

    def chosen(self) -> list[FoundRun]:
        """Return the runs whose rows are selected, from top to bottom."""
        rows = {index.row() for index in self.table.selectedIndexes()}
        return [self._runs[row] for row in sorted(rows) if row < len(self._runs)]

    def choose(self, paths: Sequence[Path]) -> None:
        """Select the rows of runs."""
        self.table.clearSelection()
        for row, run in enumerate(self._runs):
            if run.path in paths:
                self.table.select(row)

    def refresh(self) -> None:
        """Look at the folder again; what is chosen stays chosen."""
        folder = self.runs_folder()
        chosen = [run.path for run in self.chosen()]
        rows = self._found.look(folder)
        runs = self._found.runs()
        if rows != self.table.rows or [r.path for r in self._runs] != [
            r.path for r in runs
        ]:
            self._runs = runs
            self.table.blockSignals(True)
            self.table.show_rows(rows)
            self.choose(chosen)
            self.table.blockSignals(False)
        if self._begun in [run.path for run in self._runs]:
            self.choose([self._begun])
            self._begun = None
        self._follow_awaited()
        is_alive = any(run.state == "running" for run in self.chosen())
        if is_alive and self.curves.isVisible():
            self.curves.draw()
        self._enable()

    def attach(self) -> None:
        """Follow the chosen run, or show how it ended."""
        self._watch(self.chosen()[0].path)

    def resume(self) -> None:
        """Go on with the chosen run in a process of its own."""
        run = self.chosen()[0]
        job = self.jobs.job(_JOBS[run.kind], can_go_on=True)
        self._start(job, [run.kind, "--out", str(run.path), "--resume"], run.path)

    def cancel(self) -> None:
        """Ask the chosen run to stop: one that waits for a scheduler never begins."""
        run = self.chosen()[0]
        try:
            Run(run.path).request_cancel()
        except EctkdError as error:
            self.status.say(str(error), is_error=True)
            return
        if self._awaited == run.path:
            self._awaited = None
        if run.state == "queued":
            self.status.say(f"Cancelled {run.path.name} before it began")
        self.refresh()

    def duplicate(self) -> None:
        """Start another run with the chosen one's settings, changed at will."""
        run = self.chosen()[0]
        taken = [found.path.name for found in self._runs]
        try:
            dialog = DuplicateDialog(run.path, taken, self)
        except EctkdError as error:
            self.status.say(str(error), is_error=True)
            return
        if dialog.exec():
            path = run.path.parent / dialog.name()
            job = self.jobs.job(_JOBS[run.kind], can_go_on=True)
            try:
                command = dialog.arguments(path)
            except EctkdError as error:
                self.status.say(str(error), is_error=True)
                return
            self._start(job, command, path)

    def export(self) -> None:
        """Write the chosen run's model as one file."""
        self.exporting.ask(self.chosen()[0].path)
        self._enable()

    def delete(self) -> None:
        """Remove the chosen runs, if that is what the user wants."""
        runs = self.chosen()
        names = ", ".join(run.path.name for run in runs)
        answer = QMessageBox.question(
            self,
            "Delete runs",
            f"Delete {names}, with model, log and curves? It cannot be undone.",
            QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.No,
            QMessageBox.StandardButton.No,
        )
        if answer != QMessageBox.StandardButton.Yes:
            return
        try:
            for run in runs:
                delete_run(run.path)
            self.status.say(f"Deleted {names}")
        except EctkdError as error:
            self.status.say(str(error), is_error=True)
        self.refresh()

    def show_card(self) -> None:
        """Show the chosen run's model card, but for its settings: they are wide."""
        card = Run(self.chosen()[0].path).card_path
        text, *_settings = card.read_text(encoding="utf-8").split(SETTINGS_HEADING)
        self.card.setText(text)
        self.card.show()

    def check_setup(self) -> None:
        """Open the check of this machine."""
        SetupCheck(self).show()

    def _build(self) -> None:
        self.add_heading("Runs of this project")
        self.column.addWidget(self.table)
        buttons = QGridLayout()
        for number, button in enumerate(
            (
                *(self.attach_button, self.resume_button, self.cancel_button),
                *(self.duplicate_button, self.export_button, self.card_button),
                *(self.delete_button, self.folder_button, self.setup_button),
            )
        ):
            buttons.addWidget(button, *divmod(number, 3))
        self.column.addLayout(buttons)
        self.column.addWidget(self.exporting)
        self.column.addWidget(self.watched_name)
        self.column.addWidget(self.status)
        self.column.addWidget(self.card)
        self.column.addWidget(self.curves)
        self.column.addWidget(self.examples)
        self.column.addStretch(1)
        self.card.setTextFormat(Qt.TextFormat.MarkdownText)
        self.card.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.card.hide()
        self.watched_name.hide()
        self.curves.hide()
        self.examples.hide()
        self.setup_button.setToolTip(
            "<qt>Runs a real computation on each device, and says what is missing</qt>"
        )
        self.folder_button.setToolTip("Show the runs of another folder")

    def _connect(self) -> None:
        self._timer.timeout.connect(self.refresh)
        self.session.tomograms_changed.connect(self.refresh)
        self.table.itemSelectionChanged.connect(self._on_chosen)
        self.attach_button.clicked.connect(self.attach)
        self.resume_button.clicked.connect(self.resume)
        self.cancel_button.clicked.connect(self.cancel)
        self.duplicate_button.clicked.connect(self.duplicate)
        self.export_button.clicked.connect(self.export)
        self.card_button.clicked.connect(self.show_card)
        self.delete_button.clicked.connect(self.delete)
        self.folder_button.clicked.connect(self._choose_folder)
        self.setup_button.clicked.connect(self.check_setup)
        self.watched.progressed.connect(self._on_event)
        self.watched.ended.connect(self.refresh)
        self.exporting.job.ended.connect(self._enable)

    def _watch(self, path: Path) -> None:
        """Follow a run, at once or as soon as its process has said who it is."""
        if self.watched.is_active:
            self.watched.detach()
        self._awaited = path
        self.watched_name.setText(f"<b>{escape(path.name)}</b>")
        self.watched_name.show()
        self.status.clear()
        self.status.say(f"Waiting for {path.name} to start…")
        self._follow_awaited()

    def _follow_awaited(self) -> None:
        path = self._awaited
        if path is None or Run(path).state() in ("new", "queued"):
            return
        if not self._is_starting(path):
            self._awaited = None
            self.watched.attach(path)
            self.status.clear()

    def _is_starting(self, path: Path) -> bool:
        """Whether a job of this window has begun in a folder and is still importing."""
        jobs = [self.jobs.job(title, can_go_on=True) for title in _JOBS.values()]
        is_ours = any(job.is_active and job.folder == path.absolute() for job in jobs)
        return is_ours and not Run(path).is_running()

    def _start(self, job: Job, command: list[str], path: Path) -> None:
        try:
            job.start(command, path)
        except EctkdError as error:
            self.status.say(str(error), is_error=True)
            return
        self._watch(path)
        self._begun = path  # a new run is in the list once its process has made it
        self.refresh()

    def _on_event(self, event: Event) -> None:
        if isinstance(event, EpochEnd) and self.curves.isVisible():
            self.curves.draw_later()
        if isinstance(event, Saved) and event.what == "examples":
            self._on_chosen()

    def _on_chosen(self) -> None:
        runs = self.chosen()
        self.card.hide()
        self.curves.setVisible(bool(runs))
        # A search learns nothing itself, but its trials do.
        self.curves.show_runs(
            [
                part.path
                for run in runs
                for part in trial_runs(Run(run.path)) or [Run(run.path)]
            ]
        )
        one = runs[0] if len(runs) == 1 else None
        is_quiet = self._awaited is None and not self.watched.is_active
        if is_quiet and one is not None and one.path != self.watched.folder:
            self.status.clear()  # what it says is of another run
            self.watched_name.hide()
        has_examples = one is not None and Run(one.path).examples_path.exists()
        self.examples.setVisible(has_examples)
        if has_examples:
            self.examples.show_run(one.path)
        self._enable()

    def _choose_folder(self) -> None:
        if name := QFileDialog.getExistingDirectory(self, "A folder with runs"):
            self.show_folder(Path(name))

    def show_folder(self, folder: Path) -> None:
        """List the runs of another folder than the project's."""
        self._elsewhere = folder
        self.refresh()

    def _enable(self) -> None:
        """Let what can be done with the chosen runs be done, and say why not."""
        runs = self.chosen()
        one = "" if len(runs) == 1 else "Choose one run in the list"
        busy = one or self._why_busy(runs[0])
        exports = "An export is at work" if self.exporting.job.is_active else ""
        for button, problem, text in (
            (self.attach_button, one, "Follow the run, or see how it ended"),
            (
                self.resume_button,
                busy or why_not_resumed(runs[0]),
                "Go on from the last epoch saved",
            ),
            (
                self.cancel_button,
                one or why_not_cancelled(runs[0]),
                "Stop the run; what it has saved is kept",
            ),
            (self.duplicate_button, busy, "A new run with these settings, changed"),
            (
                self.export_button,
                one or why_no_model(runs[0]) or exports,
                "Write the model as one file: for this package, as ONNX, or "
                "torch.export",
            ),
            (
                self.card_button,
                one or why_no_card(runs[0]),
                "What the model is, and how good",
            ),
            (
                self.delete_button,
                why_not_deleted(runs),
                "Remove the chosen runs; asks first",
            ),
        ):
            set_problem(button, problem, text)

    def _why_busy(self, run: FoundRun) -> str:
        title = _JOBS.get(run.kind)
        if title is None:
            return "The folder does not say how this model was made"
        if self.jobs.job(title, can_go_on=True).is_active:
            return f"{title} is at work in this window; wait, or cancel it"
        return ""
