"""Live curves of loss and accuracy."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy import API_NAME
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

from napari_ectkd.gui.later import later

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import pyqtgraph
    from numpy.typing import NDArray

    from napari_ectkd.events import EpochEnd

# Readable on napari's dark and light backgrounds, and by the color-blind.
TRAINING = "#5aa9e6"
VALIDATION = "#f4a259"
TEACHER = "#c58af9"
BASELINE = "#a8c66c"
_AXES = "#9a9a9a"

_BASELINE = "baseline_val_accuracy"
_PLOTS = {"Loss": ("loss", "val_loss"), "Accuracy": ("accuracy", "val_accuracy")}


class Curves(QWidget):
    """Loss and accuracy by epoch, on training and validation picks.

    The members of an ensemble learn one after the other: each has lines of its own,
    from where a mark says its number.
    """

    def __init__(self) -> None:
        super().__init__()
        graph = plotting_library()
        self._graph = graph
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        self._starts: dict[int, int] = {}
        self._n_epochs = 0
        self._later = later(self, self._draw)
        self._marks: list[tuple[Any, Any]] = []
        self.plots: dict[str, pyqtgraph.PlotWidget] = {}
        self._curves: dict[str, pyqtgraph.PlotDataItem] = {}
        self._points: dict[str, tuple[list[int], list[float]]] = {}
        for title, (training, validation) in _PLOTS.items():
            plot = small_plot(graph, title, "epoch" if title == "Accuracy" else "")
            layout.addWidget(plot)
            self.plots[title] = plot
            for name, text, color, width in (
                (training, "training", TRAINING, 1.5),
                (validation, "validation", VALIDATION, 2.5),
            ):
                self._points[name] = ([], [])
                pen = graph.mkPen(color, width=width)
                self._curves[name] = plot.plot(
                    name=text, pen=pen, symbolPen=None, symbolBrush=color, symbolSize=4
                )
        self._teacher = graph.InfiniteLine(
            angle=0, pen=graph.mkPen(TEACHER, width=1.5, style=Qt.PenStyle.DashLine)
        )
        accuracy = self.plots["Accuracy"]
        accuracy.setYRange(0, 1, padding=0.03)
        accuracy.addItem(self._teacher, ignoreBounds=True)
        self._legend_teacher = graph.PlotDataItem(pen=self._teacher.pen)
        pen = graph.mkPen(BASELINE, width=1.5, style=Qt.PenStyle.DashLine)
        self._baseline = graph.PlotDataItem(pen=pen)
        accuracy.plotItem.addItem(self._baseline)
        self._points[_BASELINE] = ([], [])
        self._curves[_BASELINE] = self._baseline
        self.clear()

    def clear(self) -> None:
        """Forget all epochs."""
        for name, (epochs, values) in self._points.items():
            epochs.clear()
            values.clear()
            self._curves[name].setData([], [])
        self._n_epochs = 0
        self._set_teacher(None)
        self.plots["Accuracy"].plotItem.legend.removeItem(self._baseline)
        self._starts.clear()
        for plot, mark in self._marks:
            plot.removeItem(mark)
        self._marks.clear()
        self._place_legend()

    def add(self, event: EpochEnd) -> None:
        """Take in one more epoch; one that was there before begins anew from there.

        Drawn as soon as nothing else is to be done: the log of a long run is read at
        once.
        """
        metrics = event.metrics
        if event.member not in (0, *self._starts):
            self._begin_member(event)
        for name, (epochs, values) in self._points.items():
            while epochs and epochs[-1] >= event.epoch:  # a run that was resumed
                epochs.pop()
                values.pop()
            if name in metrics:
                if name == _BASELINE and not epochs:
                    legend = self.plots["Accuracy"].plotItem.legend
                    legend.removeItem(self._baseline)
                    legend.addItem(self._baseline, "labels alone, validation")
                epochs.append(event.epoch)
                values.append(metrics[name])
        self._n_epochs = event.epochs
        if "teacher_val_accuracy" in metrics:
            self._set_teacher(metrics["teacher_val_accuracy"])
        self._later.start()

    def _draw(self) -> None:
        for name, (epochs, values) in self._points.items():
            # One point is no line: show it as a dot.
            symbol = "o" if len(epochs) < 30 and name != _BASELINE else None
            self._curves[name].setData(
                epochs,
                values,
                symbol=symbol,
                connect=apart(epochs, self._starts.values()),
            )
        self._place_legend()
        if self._n_epochs:
            for plot in self.plots.values():
                plot.setXRange(1, max(self._n_epochs, 2), padding=0.03)

    def _place_legend(self) -> None:
        """Put the accuracies' legend where its curves do not end: below high ones."""
        ends = [
            values[-1]
            for name in _PLOTS["Accuracy"]
            if (values := self._points[name][1])
        ]
        is_low = bool(ends) and np.mean(ends) < 0.5
        corner, down = ((1, 0), 6) if is_low else ((1, 1), -6)
        legend = self.plots["Accuracy"].plotItem.legend
        legend.anchor(corner, corner, offset=(-8, down))

    def points(self, name: str) -> tuple[list[int], list[float]]:
        """Return the epochs and values drawn for a metric (`val_loss`)."""
        epochs, values = self._points[name]
        return list(epochs), list(values)

    def starts(self) -> dict[int, int]:
        """Return the first epoch drawn of each member of an ensemble, by its number."""
        return dict(self._starts)

    def _begin_member(self, event: EpochEnd) -> None:
        """Mark where a member of an ensemble begins to learn."""
        self._starts[event.member] = event.epoch
        pen = self._graph.mkPen(_AXES, width=1, style=Qt.PenStyle.DotLine)
        # Of many networks the bare number has room.
        text = "network 1" if event.member == 1 else str(event.member)
        for title, plot in self.plots.items():
            mark = self._graph.InfiniteLine(
                event.epoch - 0.5,
                pen=pen,
                label=text if title == "Loss" else None,
                labelOpts={"position": 0.06, "anchors": [(0, 0.5)] * 2, "color": _AXES},
            )
            plot.addItem(mark, ignoreBounds=True)
            self._marks.append((plot, mark))

    def _set_teacher(self, accuracy: float | None) -> None:
        legend = self.plots["Accuracy"].plotItem.legend
        if accuracy is None:
            self._teacher.hide()
            legend.removeItem(self._legend_teacher)
        else:
            self._teacher.setValue(accuracy)
            if not self._teacher.isVisible():
                legend.addItem(self._legend_teacher, "teacher, validation")
            self._teacher.show()


def apart(epochs: Sequence[int], starts: Collection[int]) -> NDArray[np.int32]:
    """Return `(n,)` whether each epoch is joined to the next: not to a new start."""
    joined = np.ones(len(epochs), dtype=np.int32)
    joined[:-1] = ~np.isin(epochs[1:], list(starts))
    return joined


def plotting_library() -> Any:
    """Import pyqtgraph, which is slow, with the binding that napari uses."""
    os.environ.setdefault("PYQTGRAPH_QT_LIB", API_NAME)
    import pyqtgraph

    return pyqtgraph


def small_plot(graph: Any, left: str, bottom: str = "") -> pyqtgraph.PlotWidget:
    """Return an empty plot that fits a panel and lets the wheel scroll it.

    Parameters
    ----------
    graph
        What `plotting_library` returned.
    left, bottom
        Names of the axes.
    """
    plot = graph.PlotWidget(background=None)
    plot.setMinimumHeight(130)
    plot.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    plot.setMaximumHeight(170)
    plot.setMouseEnabled(x=False, y=False)  # the wheel is to scroll the panel
    plot.hideButtons()
    plot.setMenuEnabled(False)
    plot.addLegend(
        offset=(-8, 6), labelTextColor=_AXES, labelTextSize="8pt", verSpacing=-6
    )
    plot.showGrid(x=False, y=True, alpha=0.2)
    for side in ("left", "bottom"):
        axis = plot.getAxis(side)
        axis.setPen(_AXES)
        axis.setTextPen(_AXES)
        axis.enableAutoSIPrefix(False)  # a loss of 660 (x0.001) is hard to read
    plot.getAxis("left").setWidth(46)  # so that both plots line up
    plot.setLabel("left", left)
    if bottom:
        axis = plot.getAxis("bottom")
        axis.setLabel(bottom)
        # It is put 5 px below its place, which cuts a p: a wider margin undoes that.
        axis.label.document().setDocumentMargin(8)
        axis.setHeight(40)
    return plot
