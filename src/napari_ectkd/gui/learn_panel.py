"""What training and distilling have in common in the window: one run, followed live."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from qtpy.QtWidgets import (
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QWidget,
)

from napari_ectkd.errors import EctkdError
from napari_ectkd.events import EpochEnd, Saved
from napari_ectkd.gui.choice_edit import ChoiceEdit
from napari_ectkd.gui.curves import Curves
from napari_ectkd.gui.data_source import DataSource
from napari_ectkd.gui.detail_curves import DetailCurves
from napari_ectkd.gui.device_chooser import DeviceChooser
from napari_ectkd.gui.example_view import ExampleView
from napari_ectkd.gui.forms import Form, arguments
from napari_ectkd.gui.panel import Panel, folded, set_problem
from napari_ectkd.gui.result_table import ResultTable
from napari_ectkd.gui.run_actions import why_not_resumed
from napari_ectkd.gui.session import Session
from napari_ectkd.gui.status import JobStatus, duration
from napari_ectkd.models.registry import check_box, find_model, model_names
from napari_ectkd.training.defaults import default_epochs, default_patience
from napari_ectkd.training.run_list import FoundRun, find_run, find_runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel
    from qtpy.QtGui import QShowEvent

    from napari_ectkd.events import Event
    from napari_ectkd.training.config import TrainConfig


class LearnPanel(Panel):
    """Data, settings, one run with its curves, and what came of it."""

    command: ClassVar[str]
    title: ClassVar[str]
    name_stem: ClassVar[str]
    start_text: ClassVar[str]

    def __init__(
        self,
        viewer: ViewerModel,
        config: TrainConfig,
        fields: list[str],
        hidden: Sequence[str] = (),
    ) -> None:
        super().__init__(viewer)
        self.session = Session.of(viewer)
        self.job = self.jobs.job(self.title, can_go_on=True)
        self.data = DataSource(self.session)
        editors = {"model": self._model_chooser(), "device": DeviceChooser()}
        self.form = Form(config, fields, editors, hidden)
        self.name = QLineEdit()
        self.name.setToolTip("Name of the run's folder")
        self.start_button = QPushButton(self.start_text)
        self.runs = ChoiceEdit([])
        self.runs.setNothing("none yet")
        self.show_button = QPushButton("Show")
        self.resume_button = QPushButton("Resume")
        self.status = JobStatus(self.job)
        self.curves = Curves()
        self.details = DetailCurves(self.session.palette)
        self.examples = ExampleView(self.session.palette)
        self.summary = QLabel(wordWrap=True)
        self.table = ResultTable()
        self._listed: list[Path] = []
        self._shown: Path | None = None
        """The run whose curves are drawn."""
        self._build()
        self._connect()
        self.refresh_runs()
        for event in self.job.history:
            self._on_event(event)

    def problem(self) -> str:
        """Return why a run cannot start, or nothing."""
        if self.job.is_active:
            return f"{self.title} is at work; cancel it, or wait"
        return self.data.problem() or self._settings_problem()

    def extra_arguments(self, run: Path) -> list[str]:
        """Return a run's arguments besides data and settings; write what they name."""
        return []

    def show_result(self, result: dict[str, Any]) -> None:
        """Show what came of a run."""
        said = "no validation part, so nothing says how good it is; the last weights"
        if "val_accuracy" in result:
            said = (
                f"validation accuracy {result['val_accuracy']:.1%}, macro F1 "
                f"{result['val_macro_f1']:.2f}, from epoch {result['best_epoch']}"
            )
            self.table.show_report(result["report"])
        seconds = duration(result["seconds"])
        again = "; then it learned once more, from all labels"
        again = again if result.get("is_refit") else ""
        self.summary.setText(f"{result['model']}: {said}, in {seconds}{again}.")

    def start(self) -> None:
        """Start a new run with the settings shown."""
        folder = self.session.runs_folder() or self._folder_of_data()
        run = folder / self.name.text().strip()
        try:
            data = self.data.write(run)
            settings = [*arguments(data), *arguments(self.form.value())]
            extra = self.extra_arguments(run)
            self._begin([self.command, *settings, *extra, "--out", str(run)], run)
        except EctkdError as error:
            self.status.say(str(error), is_error=True)

    def resume(self) -> None:
        """Go on with the chosen run."""
        run = self.runs.value()
        self._begin([self.command, "--out", str(run), "--resume"], run)

    def show_run(self, run: Path) -> None:
        """Show a run that is over, or follow one that is not."""
        self._forget()
        self.job.attach(run)
        self.status.clear()
        self._refresh()

    def refresh_runs(self) -> None:
        """Look for runs in the project; follow one that went on by itself."""
        runs = [r for r in find_runs(self.session.runs_folder()) if self._is_ours(r)]
        self.runs.setChoices([(run.path, run.title) for run in runs])
        self._listed = [run.path for run in runs]
        self._propose_name([run.path.name for run in runs])
        running = [run.path for run in runs if run.state == "running"]
        if running and not self.job.is_active:
            self.show_run(running[0])
        self._refresh()

    def showEvent(self, event: QShowEvent) -> None:
        """Look for runs that were made elsewhere meanwhile."""
        super().showEvent(event)
        self.refresh_runs()

    def _is_ours(self, run: FoundRun) -> bool:
        return run.kind == self.command

    def _model_chooser(self) -> ChoiceEdit:
        names = model_names("teacher") + model_names("student")
        choices = [(name, f"{name}: {find_model(name).title}") for name in names]
        return ChoiceEdit([(None, "automatic: the best for the data"), *choices])

    def _build(self) -> None:
        self._build_head()
        self.column.addWidget(self.data)
        self.column.addWidget(self.form)
        row = QFormLayout()
        row.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        row.addRow("Run name", self.name)
        self.column.addLayout(row)
        self.column.addWidget(self.start_button)
        self.column.addWidget(self.status)
        self.column.addWidget(self.curves)
        self.more_curves = folded("More curves", self.details)
        self.column.addWidget(self.more_curves)
        self.seen = folded("What the network sees", self.examples)
        self.column.addWidget(self.seen)
        self.column.addWidget(self.summary)
        self.column.addWidget(self.table)
        self.add_heading("Earlier runs")
        earlier = QHBoxLayout()
        earlier.addWidget(self.runs, 1)
        earlier.addWidget(self.show_button)
        earlier.addWidget(self.resume_button)
        self.column.addLayout(earlier)
        self.column.addStretch(1)
        self._forget()

    def _build_head(self) -> None:
        """Add what comes before the data."""

    def _connect(self) -> None:
        self.start_button.clicked.connect(self.start)
        self.resume_button.clicked.connect(self.resume)
        self.show_button.clicked.connect(lambda: self.show_run(self.runs.value()))
        self.name.textChanged.connect(self._refresh)
        self.runs.valueChanged.connect(self._refresh)
        self.data.valueChanged.connect(self._refresh)
        self.form.valueChanged.connect(self._refresh)
        self.session.tomograms_changed.connect(self.refresh_runs)
        self.job.progressed.connect(self._on_event)
        self.job.done.connect(self._on_done)
        self.job.ended.connect(self._on_ended)
        self.job.ended.connect(self.form.editors["device"].ask_again)

    def _begin(self, command: list[str], run: Path) -> None:
        self._forget()
        self.job.start(command, run)
        self.status.clear()
        self._refresh()
        self.look_at(self.status)

    def _forget(self) -> None:
        self.curves.clear()
        self.details.clear()
        self.examples.clear()
        for widget in (self.curves, self.more_curves, self.seen):
            widget.hide()
        self.summary.hide()
        self.table.hide()

    def _on_event(self, event: Event) -> None:
        if self._shown != self.job.folder:  # a run that another panel began
            self._forget()
            self._shown = self.job.folder
        if self.job.is_active and self.start_button.isEnabled():
            self._refresh()
        if isinstance(event, EpochEnd):
            self.curves.show()
            self.more_curves.show()
            self.curves.add(event)
            self.details.add(event)
        elif isinstance(event, Saved) and event.what == "examples":
            # An ensemble's are in its members' folders.
            self.examples.show_run(Path(event.path).parent)
            self.seen.show()

    def _on_done(self, result: dict[str, Any]) -> None:
        self.status.say("")
        self.summary.show()
        self.show_result(result)
        self.look_at(self._outcome())

    def _on_ended(self) -> None:
        """Choose the run that ended, so that it can be resumed."""
        self.refresh_runs()
        if self.job.folder in self._listed:
            self.runs.setValue(self.job.folder)

    def _outcome(self) -> QWidget:
        """Return what is to be seen first of a run that is done."""
        return self.table

    def _settings_problem(self) -> str:
        name = self.name.text().strip()
        if not name or "/" in name or "\\" in name:
            return "Give the run a name that can be a folder's"
        folder = self.session.runs_folder()
        if folder is not None and (folder / name / "config.json").exists():
            return f"There is a run called {name}; give this one another name"
        try:
            config = self.form.value()
            box = self.data.box_px()
            if config.model is not None and box is not None:
                check_box(config.model, box)
        except EctkdError as error:
            return str(error)
        return ""

    def _resume_problem(self) -> str:
        run = self.runs.value()
        if self.job.is_active:
            return f"{self.title} is at work"
        if run is None:
            return "No earlier runs in this project"
        found = find_run(run)
        return "It is no run any more" if found is None else why_not_resumed(found)

    def _propose_name(self, taken: list[str]) -> None:
        """Propose a name that no folder has, be it one of a run that is broken."""
        folder = self.session.runs_folder()
        if folder is not None and folder.is_dir():
            taken = [*taken, *(path.name for path in folder.iterdir())]
        if not self.name.text() or self.name.text() in taken:
            number = 1
            while f"{self.name_stem}-{number}" in taken:
                number += 1
            self.name.setText(f"{self.name_stem}-{number}")

    def _folder_of_data(self) -> Path:
        """Return where runs go while no tomogram is open."""
        return self.data.files.value()[0].absolute().parent / "runs"

    def _suggest(self) -> None:
        """Let who takes "automatic" away start from what it comes to."""
        try:
            config = self.form.value()
        except EctkdError:
            return  # half-way through an edit
        n = sum(self.data.class_counts().values())
        n_training = max(round(n * (1 - config.validation_fraction)), 1)
        epochs = default_epochs(n_training, config.batch_size)
        editors = self.form.editors
        editors["epochs"].suggest(epochs)
        editors["patience"].suggest(default_patience(config.epochs or epochs))
        name = config.model or "residual_small"
        editors["learning_rate"].suggest(find_model(name).learning_rate)

    def _refresh(self) -> None:
        self._suggest()
        set_problem(self.start_button, self.problem(), "Starts in a process of its own")
        set_problem(
            self.resume_button,
            self._resume_problem(),
            "Go on with the chosen run from the last epoch that it saved",
        )
        problem = "No earlier runs" if self.runs.value() is None else ""
        if self.job.is_active:
            problem = f"{self.title} is at work"
        set_problem(
            self.show_button, problem, "Show the chosen run's curves and result"
        )
