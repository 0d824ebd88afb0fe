"""The curves of several runs in one plot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_ectkd.events import EpochEnd
from napari_ectkd.gui.choice_edit import ChoiceEdit
from napari_ectkd.gui.curves import plotting_library, small_plot
from napari_ectkd.gui.jobs import LogTail
from napari_ectkd.gui.later import later
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
    "learning_rate": "Learning rate",
    "per_second": "Subtomograms per second",
    "memory_gib": "Memory, GiB",
}


class CompareCurves(QWidget):
    """One metric of several runs, each in a color of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._graph = plotting_library()
        self._runs: list[Path] = []
        self._read: dict[Path, tuple[LogTail, list[EpochEnd]]] = {}
        """What was read of a log before: that of a long run takes a while."""
        self._later = later(self, self.draw)
        self.metric = ChoiceEdit(list(_METRICS.items()))
        self.plot = small_plot(self._graph, "", "epoch")
        self.plot.setMaximumHeight(240)
        self.plot.setMinimumHeight(200)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.metric)
        layout.addWidget(self.plot)
        self.metric.valueChanged.connect(self.draw)

    def show_runs(self, runs: Sequence[Path]) -> None:
        """Draw these runs."""
        self._runs = list(runs)
        self._read = {run: self._read[run] for run in runs if run in self._read}
        self.draw()

    def draw_later(self) -> None:
        """Draw as soon as nothing else is to be done."""
        self._later.start()

    def points(self, run: Path) -> dict[int, tuple[list[int], list[float]]]:
        """Return epochs and values of the chosen metric in a run's log.

        By the number of an ensemble's member, whose epochs count from 1; a single model
        is number 0.
        """
        metric = self.metric.value()
        found: dict[int, dict[int, float]] = {}
        first: dict[int, int] = {}
        tail, epochs = self._read.setdefault(run, (LogTail(Run(run).events_path), []))
        epochs += [event for event in tail.rest() if isinstance(event, EpochEnd)]
        for event in epochs:
            begin = first.setdefault(event.member, event.epoch)
            epoch = event.epoch - begin + 1 if event.member else event.epoch
            kept = found.setdefault(event.member, {})
            # A resumed run says some epochs twice; the later ones count.
            while kept and next(reversed(kept)) >= epoch:
                kept.popitem()
            if metric in event.metrics:
                kept[epoch] = event.metrics[metric]
        return {m: (list(of), list(of.values())) for m, of in found.items()}

    def draw(self) -> None:
        """Read the logs and draw; the members of an ensemble over each other."""
        self.plot.clear()
        # Accuracy rises, a loss falls: the legend is where the curves do not end.
        rises = "accuracy" in self.metric.value()
        corner, down = ((1, 1), -6) if rises else ((1, 0), 6)
        self.plot.plotItem.legend.anchor(corner, corner, offset=(-8, down))
        for number, run in enumerate(self._runs):
            color = COLORS[number % len(COLORS)]
            members = self.points(run)
            name = run.name
            if max(members, default=0):
                name += f", {len(members)} networks"
            # Of generations the last is what counts.
            n_last = len(Run(run).members()) or len(members)
            for index, (epochs, values) in enumerate(members.values()):
                is_faint = index < len(members) - n_last
                self.plot.plot(
                    epochs,
                    values,
                    name=name if index == len(members) - 1 else None,
                    pen=self._graph.mkPen(
                        self._graph.mkColor(f"{color}60" if is_faint else color),
                        width=2 if len(members) == 1 else 1.3,
                    ),
                    symbol="o" if len(epochs) < 30 else None,
                    symbolPen=None,
                    symbolBrush=f"{color}60" if is_faint else color,
                    symbolSize=4,
                )
