"""More curves of one run, one kind at a time: recall by class, rate, speed, memory."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_ectkd.gui.choice_edit import ChoiceEdit
from napari_ectkd.gui.curves import TRAINING, apart, plotting_library, small_plot
from napari_ectkd.gui.later import later
from napari_ectkd.training.watch import RECALL

if TYPE_CHECKING:
    from napari_ectkd.events import EpochEnd
    from napari_ectkd.gui.palette import Palette

_KINDS = {
    RECALL: "Recall by class",
    "learning_rate": "Learning rate",
    "per_second": "Subtomograms per second",
    "memory_gib": "Memory, GiB",
}


class DetailCurves(QWidget):
    """A choice of what to draw, and its curve or curves.

    Parameters
    ----------
    palette
        Gives the curves of classes their colors.
    """

    def __init__(self, palette: Palette) -> None:
        super().__init__()
        self._palette = palette
        self._graph = plotting_library()
        self._epochs: dict[int, dict[str, float]] = {}
        self._starts: dict[int, int] = {}
        self._later = later(self, self._draw)
        self.kind = ChoiceEdit(list(_KINDS.items()))
        self.plot = small_plot(self._graph, "", "epoch")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.kind)
        layout.addWidget(self.plot)
        # In the plot the names of eight classes would hide the curves.
        self.plot.plotItem.legend.hide()
        self.names = QLabel(wordWrap=True)
        self.names.hide()
        layout.addWidget(self.names)
        self.kind.valueChanged.connect(self._draw)

    def clear(self) -> None:
        """Forget all epochs."""
        self._epochs.clear()
        self._starts.clear()
        self._draw()

    def add(self, event: EpochEnd) -> None:
        """Take in one more epoch; one that was there before begins anew from there."""
        if event.epoch <= next(reversed(self._epochs), 0):
            for epoch in [e for e in self._epochs if e >= event.epoch]:
                del self._epochs[epoch]
        self._epochs[event.epoch] = event.metrics
        self._starts.setdefault(event.member, event.epoch)
        if self.isVisible():
            self._later.start()

    def showEvent(self, event: object) -> None:
        """Draw what came in while nobody looked."""
        super().showEvent(event)
        self._draw()

    def points(self) -> dict[str, tuple[list[int], list[float]]]:
        """Return the curves of the chosen kind by name."""
        kind = self.kind.value()
        curves: dict[str, tuple[list[int], list[float]]] = {}
        for epoch, metrics in self._epochs.items():
            for name, value in metrics.items():
                if name.startswith(kind):
                    epochs, values = curves.setdefault(name, ([], []))
                    epochs.append(epoch)
                    values.append(value)
        return curves

    def _draw(self) -> None:
        self.plot.clear()
        named = []
        for name, (epochs, values) in self.points().items():
            is_class = name.startswith(RECALL)
            text = name.removeprefix(RECALL)
            color = self._palette.color(text) if is_class else TRAINING
            if is_class:
                named.append(
                    f"<span style='color: {color}'>■</span>&nbsp;{escape(text)}"
                )
            self.plot.plot(
                epochs,
                values,
                pen=self._graph.mkPen(color, width=2),
                symbol="o" if len(epochs) < 30 else None,
                symbolPen=None,
                symbolBrush=color,
                symbolSize=4,
                connect=apart(epochs, self._starts.values()),
            )
        self.names.setText(" &nbsp; ".join(named))
        self.names.setVisible(bool(named))
        if self.kind.value() == RECALL:
            self.plot.setYRange(0, 1, padding=0.03)
        else:
            self.plot.enableAutoRange(y=True)
