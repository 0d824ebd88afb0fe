"""All steps of the work in one dock widget, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QTabWidget, QVBoxLayout, QWidget

from napari_ectkd.gui.class_codes import class_codes
from napari_ectkd.gui.classify_panel import ClassifyPanel
from napari_ectkd.gui.distill_panel import DistillPanel
from napari_ectkd.gui.open_jobs import Jobs
from napari_ectkd.gui.pick_panel import PickPanel
from napari_ectkd.gui.runs_panel import RunsPanel
from napari_ectkd.gui.session import Session
from napari_ectkd.gui.simulate_panel import SimulatePanel
from napari_ectkd.gui.train_panel import TrainPanel
from napari_ectkd.training.run_list import find_runs

if TYPE_CHECKING:
    from pathlib import Path

    import napari

_TITLES = ("1 Label", "2 Train", "3 Distill", "4 Classify", "Runs", "Simulate")


class StudioPanel(QWidget):
    """The panels as tabs; a tab with a check mark has been done."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self.session = Session.of(napari_viewer)
        self.pick = PickPanel(napari_viewer)
        self.train = TrainPanel(napari_viewer)
        self.distill = DistillPanel(napari_viewer)
        self.classify = ClassifyPanel(napari_viewer)
        self.tabs = QTabWidget(documentMode=True)
        self.tabs.setUsesScrollButtons(False)
        self.runs = RunsPanel(napari_viewer)
        self.simulate = SimulatePanel(napari_viewer)
        steps = (self.pick, self.train, self.distill, self.classify)
        panels = (*steps, self.runs, self.simulate)
        for panel, title in zip(panels, _TITLES, strict=True):
            self.tabs.addTab(panel, title)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.tabs)
        self._kinds: set[str] = set()
        jobs = Jobs.of(napari_viewer)
        for title in ("Training", "Distillation"):
            jobs.job(title, can_go_on=True).ended.connect(self._refresh_runs)
        self.session.tomograms_changed.connect(self._refresh_runs)
        self.session.picks_changed.connect(self._refresh)
        self.classify.correct_requested.connect(self._train_again)
        self.classify.correct_button.show()
        self.simulate.train_requested.connect(self._train_on)
        self.simulate.stream_requested.connect(self._train_on_stream)
        self._refresh_runs()

    def done_steps(self) -> list[bool]:
        """Return for each step whether the next has something to go on with."""
        picks = self.session.all_picks()
        codes = class_codes(picks)
        n_classes = len(codes.label.counts(codes.is_labeled))
        return [
            n_classes >= 2,
            "train" in self._kinds,
            "distill" in self._kinds,
            bool(codes.is_predicted.any()),
        ]

    def _refresh_runs(self) -> None:
        runs = find_runs(self.session.runs_folder())
        self._kinds = {run.kind for run in runs if run.state == "finished"}
        self._refresh()

    def _refresh(self) -> None:
        for index, is_done in enumerate(self.done_steps()):
            title = _TITLES[index]
            # In place of its number, so that the tabs get no wider.
            self.tabs.setTabText(index, f"✓{title[1:]}" if is_done else title)

    def _train_on(self, folder: Path) -> None:
        self.train.data.show_files([folder])
        self.tabs.setCurrentWidget(self.train)

    def _train_on_stream(self, settings: Path) -> None:
        self.train.data.show_stream(settings)
        self.tabs.setCurrentWidget(self.train)

    def _train_again(self) -> None:
        self.tabs.setCurrentWidget(self.train)
