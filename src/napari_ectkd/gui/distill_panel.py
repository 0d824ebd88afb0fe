"""The panel that distills teachers into a compact student."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QWidget,
)

from napari_ectkd.distillation.config import DistillConfig, SearchConfig
from napari_ectkd.distillation.front import (
    read_front,
    trial_run,
    use_trial,
    with_times_of,
)
from napari_ectkd.errors import EctkdError
from napari_ectkd.events import Finished, Saved
from napari_ectkd.gui.choice_edit import ChoiceEdit
from napari_ectkd.gui.editors import IntEdit
from napari_ectkd.gui.forecast import about_student, about_teacher
from napari_ectkd.gui.front_plot import FrontPlot
from napari_ectkd.gui.learn_panel import LearnPanel
from napari_ectkd.gui.result_table import ResultTable
from napari_ectkd.gui.session import Session
from napari_ectkd.gui.unlabeled_box import UnlabeledBox
from napari_ectkd.models.registry import find_model, model_names, smallest_box
from napari_ectkd.runs import Run
from napari_ectkd.training.run_list import FoundRun, find_run, find_runs

if TYPE_CHECKING:
    import napari

    from napari_ectkd.events import Event

_RUN = Qt.ItemDataRole.UserRole


class DistillPanel(LearnPanel):
    """Distills one or several teachers into a student, and compares them."""

    command: ClassVar[str] = "distill"
    title: ClassVar[str] = "Distillation"
    name_stem: ClassVar[str] = "student"
    start_text: ClassVar[str] = "Start distilling"

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        self.teachers = QListWidget()
        self.browse_button = QPushButton("Browse…")
        self.about_teachers = QLabel(wordWrap=True)
        self.about_student = QLabel(wordWrap=True)
        self.also_unlabeled = UnlabeledBox(
            Session.of(napari_viewer),
            "The teacher says what it thinks of {n} picks; the student learns that",
        )
        self.baseline = QCheckBox("Also train it on labels alone, to compare")
        self.search = QCheckBox("Try all student sizes")
        self.trials = IntEdit(1, 1000, "runs")
        self.front = FrontPlot()
        self.front_hint = QLabel(wordWrap=True)
        self.comparison = ResultTable()
        self.agreement_hint = QLabel(wordWrap=True)
        self.agreement = ResultTable()
        self.scores_hint = QLabel(wordWrap=True)
        self._result: dict[str, Any] = {}
        self._is_chosen = False
        super().__init__(
            napari_viewer,
            DistillConfig(),
            ["model", "temperature", "soft_weight", "epochs", "device"],
            hidden=["unlabeled", "baseline"],
        )
        self.jobs.job("Training", can_go_on=True).ended.connect(self.refresh_runs)

    def problem(self) -> str:
        """Return why a run cannot start, or nothing."""
        chosen = self.chosen_teachers()
        if not chosen:
            return "Choose a teacher: train one in step 2, or browse for a run"
        first = chosen[0].info
        for other in chosen[1:]:
            if set(other.info.classes) != set(first.classes):
                return "The chosen teachers know different classes; choose others"
        if self.search.isChecked() and not find_spec("optuna"):
            return (
                "Trying all sizes needs optuna: pip install 'napari-ectkd[search]', or "
                "take the tick away"
            )
        return self._box_problem() or super().problem()

    def chosen_teachers(self) -> list[FoundRun]:
        """Return the teachers that are checked."""
        items = [self.teachers.item(row) for row in range(self.teachers.count())]
        return [i.data(_RUN) for i in items if i.checkState() == Qt.CheckState.Checked]

    def extra_arguments(self, run: Path) -> list[str]:
        """Return teachers, unlabeled picks and the search as arguments."""
        found = [a for t in self.chosen_teachers() for a in ("--teacher", str(t.path))]
        found += self.also_unlabeled.arguments(run)
        if self.search.isChecked():
            found += ["--search", "--trials", str(self.trials.value())]
        return found

    def show_result(self, result: dict[str, Any]) -> None:
        """Show the student against its teachers, and its scores by class."""
        super().show_result(result)
        rows = result["comparison"]
        self._result = result
        self.comparison.show_comparison(rows)
        self.scores_hint.setVisible("report" in result)
        if "agreement" in result:
            self.agreement.show_agreement(result["agreement"])
            self.agreement_hint.setText(
                "How often student and teacher say the same of the validation picks of "
                "a class, and how often each is right:"
            )
            self.agreement_hint.show()
        times = {row["role"]: row["ms_per_subtomogram"] for row in rows}
        if {"teacher", "student"} <= times.keys():
            who = "teachers" if "teachers" in times else "teacher"
            factor = times[who] / times["student"]
            text = f"The student is {factor:.3g} times as fast as its {who}"
            if "agreement" in result:
                text += f" and says the same of {result['agreement']['share']:.1%}"
            self.summary.setText(f"{text}. {self.summary.text()}")
        if "n_unlabeled" in result:
            n = result["n_unlabeled"]  # fewer than were offered: some are too near
            picks = "pick" if n == 1 else "picks"
            self.summary.setText(
                f"{self.summary.text()} It learned from {n} unlabeled {picks} too."
            )
        self._show_front()

    def use_student(self, trial: int) -> None:
        """Make one student of the shown search its model, and show it."""
        run = Run(self.job.folder)
        if self.job.is_active:
            return  # the search decides at its end
        try:
            rows = use_trial(run, trial)
        except EctkdError as error:
            self.status.say(str(error), is_error=True)
            return
        [row] = [row for row in rows if row["trial"] == trial]
        for event in trial_run(run, trial).events():
            if isinstance(event, Finished):
                self.show_result(with_times_of(row, event.result))
        self.status.say(f"Trial {trial} is now the model of {run.path.name}.")
        self.refresh_runs()
        # Whoever offers runs is to look again.
        self.session.tomograms_changed.emit()

    def refresh_runs(self) -> None:
        """Look for runs and teachers in the project."""
        self._offer([r for r in find_runs(self.session.runs_folder()) if r.info])
        super().refresh_runs()

    def _show_front(self) -> None:
        """Draw accuracy against speed, as far as the job has come."""
        try:
            front = read_front(Run(self.job.folder))
        except EctkdError:
            front = []  # one student, and no search
        rows = self._result.get("comparison", [])
        if not front and not any("val_accuracy" in row for row in rows):
            return
        self.front.show_networks(rows, front)
        self.front.show()
        text = (
            "Each point is a network: to the right is faster, up is more often right."
        )
        if front and not self.job.is_active:
            text += (
                " Click a point to use that student. Hollow ones are beaten in both."
            )
        self.front_hint.setText(text)
        self.front_hint.show()

    def _on_event(self, event: Event) -> None:
        super()._on_event(event)
        if isinstance(event, Saved) and event.what == "front":
            self._show_front()

    def _model_chooser(self) -> ChoiceEdit:
        names = list(reversed(model_names("student"))) + model_names("teacher")
        return ChoiceEdit([(n, f"{n}: {find_model(n).title}") for n in names])

    def _build_head(self) -> None:
        self.add_heading("Teachers")
        self.teachers.setMaximumHeight(90)
        self.column.addWidget(self.teachers)
        self.column.addWidget(self.browse_button, 0, Qt.AlignmentFlag.AlignRight)
        self.column.addWidget(self.about_teachers)

    def _build(self) -> None:
        super()._build()
        row = QHBoxLayout()
        row.addWidget(self.search, 1)
        row.addWidget(self.trials)
        self.trials.setValue(SearchConfig().trials)
        self.baseline.setToolTip(
            "<qt>The same student without a teacher: what it gains from the teacher is "
            "the difference. Takes as long again</qt>"
        )
        self.search.setToolTip(
            "<qt>Trains many students one after the other and draws accuracy against "
            "speed; choose one of them then</qt>"
        )
        after = self.column.indexOf(self.form) + 1
        self.column.insertWidget(after, self.about_student)
        self.column.insertWidget(after + 1, self.also_unlabeled)
        self.column.insertWidget(after + 2, self.baseline)
        self.column.insertLayout(after + 3, row)
        here = self.column.indexOf(self.summary)
        self.column.insertWidget(here + 1, self.front)
        self.column.insertWidget(here + 2, self.front_hint)
        self.column.insertWidget(here + 3, self.comparison)
        self.column.insertWidget(here + 4, self.agreement_hint)
        self.column.insertWidget(here + 5, self.agreement)
        self.column.insertWidget(here + 6, self.scores_hint)
        self.scores_hint.setText("The student's predictions of the validation picks:")

    def _connect(self) -> None:
        super()._connect()
        self.browse_button.clicked.connect(self._browse)
        self.teachers.itemChanged.connect(self._choose)
        self.search.toggled.connect(self._refresh)
        self.baseline.toggled.connect(self._set_baseline)
        self.front.chosen.connect(self.use_student)
        self.session.picks_changed.connect(self._refresh)

    def _forget(self) -> None:
        super()._forget()
        self._result = {}
        for widget in (
            *(self.front, self.front_hint, self.comparison),
            *(self.agreement_hint, self.agreement, self.scores_hint),
        ):
            widget.hide()

    def _refresh(self) -> None:
        super()._refresh()
        chosen = self.chosen_teachers()
        about = "<br>".join(map(about_teacher, chosen))
        if not self.teachers.count():
            about = "No teacher yet: train one in step 2, or browse for a run."
        self.about_teachers.setText(about)
        self.about_teachers.setVisible(bool(about))
        is_searching = self.search.isChecked()
        self.trials.setEnabled(is_searching)
        self.baseline.setEnabled(not is_searching)
        self.form.editors["model"].setEnabled(not is_searching)
        is_narrow = bool(self._box_problem())
        self.about_student.setVisible(bool(chosen) and (is_narrow or not is_searching))
        if chosen and (is_narrow or not is_searching):
            config = self.form.value()
            self.about_student.setText(
                self._box_problem()
                or about_student(config.model, chosen, config.batch_size)
            )
        self.also_unlabeled.refresh(self.data)

    def _outcome(self) -> QWidget:
        """Return the comparison, above which there is the picture; not what follows."""
        return self.comparison

    def _box_problem(self) -> str:
        """Return why the teacher's box is no student's, or nothing."""
        chosen, least = self.chosen_teachers(), smallest_box("student")
        kind = find_model(self.form.editors["model"].value()).kind
        if not chosen or chosen[0].info.box >= least or kind != "student":
            return ""
        return (
            f"{chosen[0].path.name} sees boxes of {chosen[0].info.box} voxels, and no "
            f"student takes fewer than {least}: train a teacher with a larger box in "
            "step 2"
        )

    def _offer(self, runs: list[FoundRun]) -> None:
        """Offer teachers: the newest is checked until somebody chooses."""
        checked = {run.path for run in self.chosen_teachers()}
        there = [
            self.teachers.item(row).data(_RUN) for row in range(self.teachers.count())
        ]
        known = {run.path for run in runs}
        others = [r for r in there if r.path not in known and r.path.exists()]
        trained = [run for run in runs if run.kind == "train"]
        finished = [run for run in trained if run.state == "finished"]
        if trained and not self._is_chosen:
            checked = {(finished or trained)[0].path}
        self.teachers.blockSignals(True)
        self.teachers.clear()
        for run in [*others, *trained, *(r for r in runs if r.kind != "train")]:
            self._add(run, is_checked=run.path in checked)
        self.teachers.blockSignals(False)
        self._on_teachers()

    def _add(self, run: FoundRun, *, is_checked: bool) -> None:
        item = QListWidgetItem(run.title)
        item.setData(_RUN, run)
        item.setToolTip(f"Classes: {', '.join(run.info.classes)}\n{run.path}")
        state = Qt.CheckState.Checked if is_checked else Qt.CheckState.Unchecked
        item.setCheckState(state)
        self.teachers.addItem(item)

    def _set_baseline(self, is_wanted: bool) -> None:
        # The tick box stands in for the form's own, whose name says little.
        config = self.form.value().model_copy(update={"baseline": is_wanted})
        self.form.setValue(config)

    def _choose(self) -> None:
        self._is_chosen = True
        self._on_teachers()

    def _on_teachers(self) -> None:
        chosen = self.chosen_teachers()
        self.data.follow(chosen[0].info if chosen else None)
        self._refresh()

    def _browse(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Choose a teacher's run folder")
        run = find_run(Path(path)) if path else None
        if run is not None and run.info is not None:
            self._add(run, is_checked=True)
            self._choose()
        elif path:
            self.status.say(f"{path}: no run with a model in it", is_error=True)
