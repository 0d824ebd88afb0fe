"""The curves of several runs in one plot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_ectkd.events import EpochEnd
from napari_ectkd.gui.curves import plotting_library, small_plot
from napari_ectkd.gui.editors import ChoiceEdit
from napari_ectkd.io.class_colors import COLORS
from napari_ectkd.runs import Run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_METRICS = {
    "val_accuracy": "Validation accuracy",
    "val_loss": "Validation loss",
    "loss": "Training loss",
    "accuracy": "Training accuracy",
    "per_second": "Subtomograms per second",
}


class CompareCurves(QWidget):
    """One metric of several runs, each in a color of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._graph = plotting_library()
        self._runs: list[Path] = []
        self.metric = ChoiceEdit(list(_METRICS.items()))
        self.plot = small_plot(self._graph, "")
        self.plot.setMaximumHeight(240)
        self.plot.setMinimumHeight(200)
        self.plot.getAxis("bottom").setLabel("epoch")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.metric)
        layout.addWidget(self.plot)
        self.metric.valueChanged.connect(self.draw)

    def show_runs(self, runs: Sequence[Path]) -> None:
        """Draw these runs."""
        self._runs = list(runs)
        self.draw()

    def points(self, run: Path) -> tuple[list[int], list[float]]:
        """Return the epochs and values of the chosen metric in a run's log."""
        metric = self.metric.value()
        found: dict[int, float] = {}
        for event in Run(run).events():
            if isinstance(event, EpochEnd):
                # A resumed run says some epochs twice; the later ones count.
                found = {e: v for e, v in found.items() if e < event.epoch}
                if metric in event.metrics:
                    found[event.epoch] = event.metrics[metric]
        return list(found), list(found.values())

    def draw(self) -> None:
        """Read the logs and draw."""
        self.plot.clear()
        for number, run in enumerate(self._runs):
            epochs, values = self.points(run)
            color = COLORS[number % len(COLORS)]
            self.plot.plot(
                epochs,
                values,
                name=run.name,
                pen=self._graph.mkPen(color, width=2),
                symbol="o" if len(epochs) < 30 else None,
                symbolPen=None,
                symbolBrush=color,
                symbolSize=4,
            )
