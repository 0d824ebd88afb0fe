"""The panel that classifies picks with a model, or finds them with it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
)

from napari_ectkd.errors import DataError, EctkdError
from napari_ectkd.gui.batch_inputs import picks_of
from napari_ectkd.gui.batch_table import BatchTable
from napari_ectkd.gui.choice_edit import ChoiceEdit
from napari_ectkd.gui.class_codes import class_codes
from napari_ectkd.gui.classes_table import ClassesTable
from napari_ectkd.gui.device_chooser import DeviceChooser
from napari_ectkd.gui.filter_form import FilterForm
from napari_ectkd.gui.hit_list import HitList
from napari_ectkd.gui.mesh_form import MeshForm
from napari_ectkd.gui.model_facts import about_model, model_problem
from napari_ectkd.gui.panel import Panel, set_problem
from napari_ectkd.gui.run_list import RunChooser
from napari_ectkd.gui.score_histogram import ScoreHistogram
from napari_ectkd.gui.score_maps import KeepScores, ScoreMaps
from napari_ectkd.gui.session import Session
from napari_ectkd.gui.status import JobStatus
from napari_ectkd.gui.tomogram_batch import (
    BatchOrder,
    TomogramBatch,
    n_found,
)
from napari_ectkd.gui.tomogram_chooser import TomogramChooser
from napari_ectkd.io.star import write_picks
from napari_ectkd.training.run_list import find_runs

if TYPE_CHECKING:
    import napari
    import numpy as np
    from numpy.typing import NDArray

    from napari_ectkd.io.picks import Picks

_PICKS, _SWEEP = "picks", "sweep"
_NO_PICKS = "No picks to classify: pick particles in step 1, or sweep"


class ClassifyPanel(Panel):
    """Classifies picks or a whole tomogram; shows predictions by class, confidence."""

    correct_requested = Signal()

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self.session = Session.of(napari_viewer)
        self.job = self.jobs.job("Classification")
        self.model = RunChooser()
        self.about = QLabel(wordWrap=True)
        self.what = ChoiceEdit([(_PICKS, "the picks"), (_SWEEP, "every place (sweep)")])
        self.tomograms = TomogramChooser(self.session)
        self.device = DeviceChooser()
        self.keep_scores = KeepScores()
        self.average = QCheckBox("Average over rotations")
        self.in_mask = QCheckBox("Search inside the mask only")
        self.start_button = QPushButton("Classify")
        self.status = JobStatus(self.job)
        self.batch = TomogramBatch(self.session, self.job)
        self.table = BatchTable(self.batch)
        self.maps = ScoreMaps(self.session)
        self.filters = FilterForm(self.session)
        self.densities = MeshForm(self.session)
        self.classes = ClassesTable(self.session, is_editable=False)
        self.histogram = ScoreHistogram(self.session)
        self.hint = QLabel(wordWrap=True)
        self.hits = HitList(self.session)
        self.learning = self.jobs.job("Training", can_go_on=True)
        self.refine_button = QPushButton("Learn again from these")
        self.learn_status = JobStatus(self.learning)
        self._refined: Path | None = None
        self.correct_button = QPushButton("Train again with corrections")
        self.save_button = QPushButton("Save STAR…")
        self._build()
        self._connect()
        self.refresh_runs()

    def problem(self) -> str:
        """Return why nothing can be classified, or nothing."""
        if self.job.is_active:
            return "Classification is at work"
        if problem := self.tomograms.problem():
            return problem
        if self.model.value() is None:
            return "Choose a model: train or distill one, or browse for a run"
        is_sweep = self.what.value() == _SWEEP
        problem = model_problem(self.model.value(), is_sweep=is_sweep)
        if problem or is_sweep:
            return problem
        # Files may be many; whether they have picks is seen at the start.
        opened = {t.path: t.name for t in self.session.tomograms.values()}
        paths = self.tomograms.paths()
        if all(p in opened and not len(self.session.picks(opened[p])) for p in paths):
            return _NO_PICKS
        return ""

    def start(self) -> None:
        """Classify the picks of the chosen tomograms, or sweep them."""
        is_sweep = self.what.value() == _SWEEP
        try:
            entries = self.tomograms.entries()
            n_chosen = len(entries)
            if not is_sweep:
                entries = [e for e in entries if len(picks_of(e, self.session))]
            if not entries:
                raise DataError(_NO_PICKS)
            order = BatchOrder(
                entries,
                is_sweep,
                self.model.value(),
                str(self.device.value()),
                self.tomograms.results_folder(),
                keeps_scores=self.keep_scores.isChecked(),
                is_averaged=self.average.isChecked(),
                mask=self._mask() if self.in_mask.isChecked() else None,
            )
            if order.keeps_scores:
                self.maps.show_none()  # the files are about to be others
            self.batch.start(order)
        except EctkdError as error:
            self.status.say(str(error), is_error=True)
            return
        self.status.clear()
        if n_left_out := n_chosen - len(entries):
            self.status.warn(f"{n_left_out} tomograms have no picks and are left out")
        self._refresh()

    def learn_again(self) -> None:
        """Let the chosen model learn from what was said of its hits, as a new run."""
        self.learn_status.show()
        session = self.session
        picks = session.all_picks()
        sizes = {name: t.voxel_size for name, t in session.tomograms.items()}
        names = (f"refined-{number}" for number in itertools.count(1))
        run = next(r for n in names if not (r := session.runs_folder() / n).exists())
        try:
            _, tomograms = session.write_inputs()
            path = session.folder / "labels" / f"{run.name}.star"
            write_picks(path, picks[_is_judged(picks)], sizes)
            arguments = ["refine", str(path), "--tomograms", str(tomograms)]
            arguments += ["--model", str(self.model.value()), "--out", str(run)]
            arguments += ["--device", str(self.device.value())]
            self.learning.start(arguments, run)
            self._refined = self.learning.folder
        except EctkdError as error:
            self.learn_status.say(str(error), is_error=True)
            return
        self.learn_status.clear()
        self._refresh()

    def refresh_runs(self) -> None:
        """Look for models in the project."""
        # Students first: they are what the work was for.
        runs = find_runs(self.session.runs_folder())
        runs.sort(key=lambda run: run.kind != "distill")
        self.model.offer(runs)
        self._refresh()

    def _build(self) -> None:
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Model", self.model)
        form.addRow(self.about)
        form.addRow("Look at", self.what)
        form.addRow("Of", self.tomograms)
        form.addRow("Device", self.device)
        self.column.addLayout(form)
        self.column.addWidget(self.keep_scores)
        self.column.addWidget(self.in_mask)
        self.in_mask.setToolTip("<qt>The mask that is chosen below</qt>")
        self.in_mask.setChecked(True)
        self.column.addWidget(self.average)
        self.average.setToolTip(
            "<qt>The model looks at each pick in all rotations by 180° that keep the "
            "missing wedge: a little more accurate, up to four times as slow</qt>"
        )
        self.column.addWidget(self.start_button)
        self.column.addWidget(self.status)
        self.column.addWidget(self.table)
        self.add_heading("Shown")
        self.column.addWidget(self.classes)
        self.column.addWidget(self.filters)
        self.column.addWidget(self.histogram)
        self.column.addWidget(self.maps)
        self.column.addWidget(self.densities)
        self.column.addWidget(self.hint)
        self.column.addWidget(self.hits)
        self.column.addWidget(self.refine_button)
        self.column.addWidget(self.learn_status)
        self.learn_status.hide()
        self.column.addWidget(self.correct_button)
        self.correct_button.setToolTip(
            "<qt>Labels that you gave to wrong predictions are learned from next, in "
            "step 2</qt>"
        )
        self.correct_button.hide()  # of use where there is a panel to go to
        buttons = QHBoxLayout()
        buttons.addStretch(1)
        buttons.addWidget(self.save_button)
        self.column.addLayout(buttons)
        self.column.addStretch(1)

    def _connect(self) -> None:
        session = self.session
        self.start_button.clicked.connect(self.start)
        self.save_button.clicked.connect(self._save)
        self.correct_button.clicked.connect(self.correct_requested)
        self.model.valueChanged.connect(self._refresh)
        self.what.valueChanged.connect(self._refresh)
        self.tomograms.valueChanged.connect(self._refresh)
        self.classes.chosen.connect(self.histogram.choose)
        self.learning.progressed.connect(self._show_learning)
        self.learning.done.connect(self._on_learned)
        self.learning.ended.connect(self._refresh)
        self.refine_button.clicked.connect(self.learn_again)
        self.batch.done.connect(self._on_done)
        self.job.ended.connect(self._refresh)
        self.job.ended.connect(self.maps.refresh)
        self.batch.said.connect(lambda text, bad: self.status.say(text, is_error=bad))
        session.tomograms_changed.connect(self.refresh_runs)
        session.current_changed.connect(self._refresh)
        session.picks_changed.connect(self._refresh)
        session.overlay_changed.connect(
            lambda: self.in_mask.setVisible(self._mask() is not None)
        )
        for title in ("Training", "Distillation"):
            self.jobs.job(title, can_go_on=True).ended.connect(self.refresh_runs)

    def _on_done(self, result: dict[str, Any]) -> None:
        if self.status.is_error:
            return  # results that could not be taken have been said
        rows, done, kept = self.batch.rows, result["done"], result["kept"]
        n, is_sweep = n_found(rows), self.batch.is_sweep
        text = f"{n:,} particles found." if is_sweep else f"{n:,} picks classified."
        if result["failed"] == len(rows) == 1:
            self.status.say(rows[0].error, is_error=True)
            return
        if result["failed"]:
            text += f" {result['failed']} of {len(rows)} tomograms failed."
        if len(rows) > 1:
            text += f" All results are in {self.batch.folder}."
        elif is_sweep and rows[0].state == "done":
            n_new = self.batch.n_new
            text += f" In {rows[0].name} {n_new:,} of them are new, the others lie on "
            text += "picks."
        if kept and done + result["failed"]:
            text += f" Nothing had changed in {kept} of them: their results were kept."
        elif kept:
            text += " Nothing had changed since the last start: results were kept."
        self.status.say(text)

    def _mask(self) -> Path | None:
        """Return the mask of the one tomogram that is to be swept, if it has one."""
        current = self.session.current
        if self.what.value() != _SWEEP or not self.tomograms.is_one or current is None:
            return None
        mask = self.session.overlay.masks.get(current.name)
        return None if mask is None else mask.path

    def _show_learning(self) -> None:
        # What Train began is no news here.
        self.learn_status.setVisible(self.learning.folder == self._refined)

    def _on_learned(self) -> None:
        if self.learning.folder == self._refined:
            self.learn_status.say(f"{self._refined.name} is among the models now.")

    def _save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self, "Save classified picks", "classes.star", "STAR files (*.star)"
        )
        if not path:
            return
        sizes = {n: t.voxel_size for n, t in self.session.tomograms.items()}
        try:
            write_picks(Path(path), self.session.all_picks(), sizes)
            self.status.say(f"Saved {path}")
        except EctkdError as error:
            self.status.say(str(error), is_error=True)

    def _refresh(self) -> None:
        is_sweep = self.what.value() == _SWEEP
        path = self.model.value()
        if path is not None:
            name = path.stem if path.suffix == ".safetensors" else path.name
            self.tomograms.propose(f"{'sweep' if is_sweep else 'classify'}-{name}")
        if not self.job.is_active and not self.tomograms.is_one:
            self.batch.look_at(self.tomograms.results_folder())
        is_many = len(self.batch.rows) > 1 and self.job.is_active
        has_rows = bool(self.batch.rows) and not self.tomograms.is_one
        self.table.setVisible(is_many or has_rows)
        self.keep_scores.setVisible(is_sweep)
        self.average.setVisible(not is_sweep)
        self.in_mask.setVisible(self._mask() is not None)
        self.start_button.setText("Sweep" if is_sweep else "Classify")
        hint = (
            "Search the whole tomogram, without picking first"
            if is_sweep
            else "Predict the class of each pick"
        )
        set_problem(self.start_button, self.problem(), hint)
        self.about.setText(about_model(path, self.session.current))
        self.about.setVisible(bool(self.about.text()))
        picks = self.session.all_picks()
        set_problem(self.save_button, "" if len(picks) else "No picks to save", "")
        codes = class_codes(picks)
        has_predictions = bool(codes.is_predicted.any())
        self.correct_button.setEnabled(has_predictions)
        self.hint.setVisible(has_predictions)
        problem = ""
        if self.learning.is_active:
            problem = "Training is at work"
        elif self.model.value() is None:
            problem = "Choose the model that found them"
        elif not _is_judged(picks).any():
            problem = "Accept, reject or relabel some hits first"
        set_problem(
            self.refine_button,
            problem,
            "The model goes on from what it knows, with what you said of all hits",
        )
        self.refine_button.setVisible(has_predictions)
        wrong = codes.label.codes != codes.prediction.codes
        n_corrected = int((wrong & _is_judged(picks)).sum())
        text = "Wrong? Select the pick, and give it the right label."
        if n_corrected:
            text += f" Labels that differ from their prediction: {n_corrected}."
        self.hint.setText(text)


def _is_judged(picks: Picks) -> NDArray[np.bool_]:
    """Return of which picks both a model and a person said something."""
    codes = class_codes(picks)
    return codes.is_labeled & codes.is_predicted
