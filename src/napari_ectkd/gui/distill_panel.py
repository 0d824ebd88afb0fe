"""The panel that distills teachers into a compact student."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QListWidget, QListWidgetItem, QPushButton

from napari_ectkd.distillation.config import DistillConfig
from napari_ectkd.gui.editors import ChoiceEdit
from napari_ectkd.gui.learn_panel import LearnPanel
from napari_ectkd.gui.result_table import ResultTable
from napari_ectkd.models.registry import MODELS, model_names
from napari_ectkd.training.run_list import FoundRun, find_run, find_runs

if TYPE_CHECKING:
    import napari

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
        self.comparison = ResultTable()
        super().__init__(
            napari_viewer,
            DistillConfig(),
            ["model", "temperature", "soft_weight", "epochs", "device"],
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
        return super().problem()

    def chosen_teachers(self) -> list[FoundRun]:
        """Return the teachers that are checked."""
        items = [self.teachers.item(row) for row in range(self.teachers.count())]
        return [i.data(_RUN) for i in items if i.checkState() == Qt.CheckState.Checked]

    def extra_arguments(self) -> list[str]:
        """Return the teachers as arguments."""
        return [a for t in self.chosen_teachers() for a in ("--teacher", str(t.path))]

    def show_result(self, result: dict[str, Any]) -> None:
        """Show the student against its teachers, and its scores by class."""
        super().show_result(result)
        rows = result["comparison"]
        self.comparison.show_comparison(rows)
        times = {row["role"]: row["ms_per_subtomogram"] for row in rows}
        if {"teacher", "student"} <= times.keys():
            factor = times["teacher"] / times["student"]
            text = f"The student is {factor:.3g} times as fast as its teacher. "
            self.summary.setText(text + self.summary.text())

    def refresh_runs(self) -> None:
        """Look for runs and teachers in the project."""
        self._offer([r for r in find_runs(self.session.runs_folder()) if r.info])
        super().refresh_runs()

    def _model_chooser(self) -> ChoiceEdit:
        names = list(reversed(model_names("student"))) + model_names("teacher")
        return ChoiceEdit([(name, f"{name}: {MODELS[name].title}") for name in names])

    def _build_head(self) -> None:
        self.add_heading("Teachers")
        self.teachers.setMaximumHeight(90)
        self.column.addWidget(self.teachers)
        self.column.addWidget(self.browse_button, 0, Qt.AlignmentFlag.AlignRight)

    def _build(self) -> None:
        super()._build()
        self.column.insertWidget(self.column.indexOf(self.table), self.comparison)

    def _connect(self) -> None:
        super()._connect()
        self.browse_button.clicked.connect(self._browse)
        self.teachers.itemChanged.connect(self._on_teachers)

    def _forget(self) -> None:
        super()._forget()
        self.comparison.hide()

    def _offer(self, runs: list[FoundRun]) -> None:
        """Offer teachers; those checked or browsed for stay."""
        checked = {run.path for run in self.chosen_teachers()}
        there = [
            self.teachers.item(row).data(_RUN) for row in range(self.teachers.count())
        ]
        known = {run.path for run in runs}
        others = [r for r in there if r.path not in known and r.path.exists()]
        trained = [run for run in runs if run.kind == "train"]
        first = trained[0].path if trained and not there else None
        self.teachers.blockSignals(True)
        self.teachers.clear()
        for run in [*others, *trained, *(r for r in runs if r.kind != "train")]:
            self._add(run, is_checked=run.path in checked or run.path == first)
        self.teachers.blockSignals(False)
        self._on_teachers()

    def _add(self, run: FoundRun, *, is_checked: bool) -> None:
        item = QListWidgetItem(run.title)
        item.setData(_RUN, run)
        item.setToolTip(f"Classes: {', '.join(run.info.classes)}\n{run.path}")
        state = Qt.CheckState.Checked if is_checked else Qt.CheckState.Unchecked
        item.setCheckState(state)
        self.teachers.addItem(item)

    def _on_teachers(self) -> None:
        chosen = self.chosen_teachers()
        self.data.follow(chosen[0].info if chosen else None)
        self._refresh()

    def _browse(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Choose a teacher's run folder")
        run = find_run(Path(path)) if path else None
        if run is not None and run.info is not None:
            self._add(run, is_checked=True)
            self._on_teachers()
        elif path:
            self.status.say(f"{path}: no run with a model in it", is_error=True)
