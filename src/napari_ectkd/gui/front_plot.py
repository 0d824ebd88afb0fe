"""Accuracy against speed: teacher, students, and the student that is used."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_ectkd.gui.curves import (
    BASELINE,
    TEACHER,
    VALIDATION,
    plotting_library,
    small_plot,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOOKS = {
    "teacher": (TEACHER, "s"),
    "teachers": (TEACHER, "s"),
    "labels alone": (BASELINE, "t"),
    "student": (VALIDATION, "o"),
}
"""Color and symbol by role."""
_TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_SMALL, _LARGE = 10, 15
"""Sizes of points in pixels."""


@dataclass(frozen=True)
class _Point:
    role: str
    speed: float
    accuracy: float
    trial: int = 0
    is_used: bool = True
    is_on_front: bool = True

    @property
    def place(self) -> tuple[float, float]:
        """Where it is drawn: powers of ten to the right, per cent up."""
        return math.log10(max(self.speed, 1e-3)), 100 * self.accuracy


class FrontPlot(QWidget):
    """Networks as points: to the right is faster, up is more often right.

    `chosen` gives the number of the trial whose point was clicked.
    """

    chosen = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._graph = plotting_library()
        self.plot = small_plot(
            self._graph, "Accuracy, %", "times as fast as the teacher"
        )
        self.plot.setFixedHeight(210)
        self.plot.showGrid(x=True, y=True, alpha=0.2)
        bottom = self.plot.getAxis("bottom")
        bottom.setTicks([[(math.log10(n), str(n)) for n in _TICKS]])
        self.plot.plotItem.legend.hide()  # each point says what it is
        self.scatter = self._graph.ScatterPlotItem()
        self.scatter.setZValue(2)
        self.scatter.sigClicked.connect(self._on_click)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.plot)

    def show_networks(
        self,
        comparison: Sequence[dict[str, Any]],
        front: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Show other networks.

        Parameters
        ----------
        comparison
            Entries of a distillation's result: teachers, the student on labels alone,
            and the student; the last is left out where there is a search's front.
        front
            Rows of a search; those that can be chosen.
        """
        points = [*_compared(comparison, not front), *map(_tried, front)]
        self.plot.clear()
        best = sorted(p.place for p in points if p.trial and p.is_on_front)
        if len(best) > 1:
            line = self._graph.PlotCurveItem(
                *map(list, zip(*best, strict=True)),
                pen=self._graph.mkPen(VALIDATION, width=1, style=Qt.PenStyle.DotLine),
            )
            self.plot.addItem(line)
        self.scatter.setData([self._spot(point) for point in points])
        self.plot.addItem(self.scatter)
        named = [p for p in points if p.is_used]
        for point in named:
            self._name(point, points)
        self._set_ranges([point.place for point in points])

    def _spot(self, point: _Point) -> dict[str, Any]:
        color, symbol = _LOOKS[point.role]
        is_filled = point.is_on_front
        return {
            "pos": point.place,
            "symbol": symbol,
            "size": _LARGE if point.is_used else _SMALL,
            "brush": self._graph.mkBrush(color if is_filled else None),
            "pen": self._graph.mkPen(color, width=1.5),
            "data": point.trial,
        }

    def _name(self, point: _Point, others: Sequence[_Point]) -> None:
        """Write beside a point what it is: the lower of two neighbors further down."""
        text = f"{point.role} {point.speed:.3g}×, {100 * point.accuracy:.1f} %"
        is_lower = False
        if point.role.startswith("teacher"):
            text = f"{point.role} {100 * point.accuracy:.1f} %"
            is_lower = True  # the others' are beside it, and mostly above
        else:
            fellows = [
                p
                for p in others
                if p.role != point.role and not p.role.startswith("teacher")
            ]
            is_lower = bool(fellows) and point.accuracy < fellows[0].accuracy
        low, high = _x_range([p.place[0] for p in others])
        # Shifted as far as the point is across the plot, so that no end is cut off.
        across = (point.place[0] - low) / (high - low)
        color, _ = _LOOKS[point.role]
        label = self._graph.TextItem(
            text, color=color, anchor=(across, -0.4 if is_lower else 1.4)
        )
        label.setPos(*point.place)
        self.plot.addItem(label)

    def _set_ranges(self, places: Sequence[tuple[float, float]]) -> None:
        if not places:
            return
        x, y = zip(*places, strict=True)
        self.plot.setXRange(*_x_range(x), padding=0)
        margin = max(2.0, 0.35 * (max(y) - min(y)))
        self.plot.setYRange(min(y) - margin, min(max(y) + margin, 102), padding=0)

    def _on_click(self, _item: object, points: Sequence[Any], *_: object) -> None:
        trials = [int(point.data()) for point in points if point.data()]
        if trials:
            self.chosen.emit(trials[0])


def _x_range(x: Sequence[float]) -> tuple[float, float]:
    """Return the ends of the plot for points at these powers of ten."""
    return min(*x, 0.0) - 0.1, max(*x, 1.2) + 0.1


def _compared(comparison: Sequence[dict[str, Any]], with_student: bool) -> list[_Point]:
    """Return the networks as points; several teachers as what they are together."""
    times = {entry["role"]: entry["ms_per_subtomogram"] for entry in comparison}
    asked = times.get("teachers", times.get("teacher", math.nan))
    left_out = set() if with_student else {"student"}
    left_out |= {"teacher"} if "teachers" in times else set()
    return [
        _Point(
            entry["role"], asked / entry["ms_per_subtomogram"], entry["val_accuracy"]
        )
        for entry in comparison
        if "val_accuracy" in entry and entry["role"] not in left_out
    ]


def _tried(row: dict[str, Any]) -> _Point:
    return _Point(
        "student",
        row["speed"],
        row["val_accuracy"],
        row["trial"],
        row["is_used"],
        row["is_on_front"],
    )
