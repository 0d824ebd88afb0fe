"""Tables of results: scores by class, and a student against its teachers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


class ResultTable(QTableWidget):
    """A small table to read, as high as its rows; hidden while it is empty."""

    def __init__(self) -> None:
        super().__init__()
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setShowGrid(False)
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(22)
        self.hide()

    def show_rows(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show other rows, the first column wide and all others right-aligned."""
        self.setColumnCount(len(columns))
        self.setHorizontalHeaderLabels(list(columns))
        self.setRowCount(len(rows))
        for i, row in enumerate(rows):
            for j, text in enumerate(row):
                item = QTableWidgetItem(text)
                item.setToolTip(text)
                side = Qt.AlignmentFlag.AlignRight if j else Qt.AlignmentFlag.AlignLeft
                item.setTextAlignment(side | Qt.AlignmentFlag.AlignVCenter)
                self.setItem(i, j, item)
        header = self.horizontalHeader()
        header.setMinimumSectionSize(30)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.setFixedHeight(header.sizeHint().height() + 22 * len(rows) + 4)
        self.setVisible(bool(rows))

    def show_report(self, report: dict[str, Any]) -> None:
        """Show scores by class."""
        rows = [
            [name, *(_score(s, k) for k in ("precision", "recall", "f1")), _n(s)]
            for name, s in report["classes"].items()
        ]
        self.show_rows(["Class", "Precision", "Recall", "F1", "Picks"], rows)

    def show_agreement(self, agreement: dict[str, Any]) -> None:
        """Show by class how often student and teacher say the same."""
        rows = [
            [name, *(f"{of[k]:.0%}" for k in ("share", "student", "teacher")), _n(of)]
            for name, of in agreement["classes"].items()
        ]
        columns = ["Class", "Agree", "Student", "Teacher", "Picks"]
        self.show_rows(columns, rows)

    def show_comparison(self, comparison: Sequence[dict[str, Any]]) -> None:
        """Show teachers and student side by side, one column each.

        Several teachers are one column, what they are together.
        """
        roles = {entry["role"] for entry in comparison}
        if "teachers" in roles:
            comparison = [entry for entry in comparison if entry["role"] != "teacher"]
        slowest = max(entry["ms_per_subtomogram"] for entry in comparison)
        lines = {
            "Network": lambda e: e["name"],
            "Parameters": lambda e: si(e["parameters"]),
            "MACs": lambda e: si(e["macs"]),
            "Time, ms": lambda e: f"{e['ms_per_subtomogram']:.3g}",
            "Speed": lambda e: f"{slowest / e['ms_per_subtomogram']:.3g}×",
            "File size": lambda e: f"{si(e['size_bytes'])}B",
            "Accuracy": lambda e: _share(e.get("val_accuracy")),
            "Macro F1": lambda e: _share(e.get("val_macro_f1")),
            "Confidence off by": lambda e: _share(e.get("calibration_error")),
            "Unknown below": lambda e: _share(e.get("min_confidence") or None),
            "Not unknown": lambda e: _share(e.get("kept")),
            "Of these right": lambda e: _share(e.get("precision")),
        }
        rows = [[title, *map(get, comparison)] for title, get in lines.items()]
        self.show_rows(["", *(e["role"].capitalize() for e in comparison)], rows)


def si(number: float) -> str:
    """Return a number with three digits and a unit prefix (`1.2 M`)."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.3g} {prefix}"
    return f"{number:.3g} "


def _score(scores: dict[str, Any], which: str) -> str:
    """Return a score; of a class of which there is nothing it says nothing."""
    return f"{scores[which]:.2f}" if scores["support"] else "–"


def _n(scores: dict[str, Any]) -> str:
    return str(scores["support"] if "support" in scores else scores["n"])


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
