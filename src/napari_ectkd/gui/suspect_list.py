"""Labels that a network confidently disagrees with, to be looked at one by one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_ectkd.errors import EctkdError
from napari_ectkd.gui.forms import arguments
from napari_ectkd.gui.labeling import show_position
from napari_ectkd.gui.panel import set_problem
from napari_ectkd.gui.status import JobStatus

if TYPE_CHECKING:
    from napari_ectkd.gui.data_source import DataSource
    from napari_ectkd.gui.open_jobs import Jobs
    from napari_ectkd.gui.session import Session

_COLUMNS = ("Label", "Seems to be", "Where")
_ENOUGH = 8
"""Labels below which there is nothing to hold out."""


class SuspectList(QWidget):
    """Looks for suspect labels in a process of its own; a click shows one.

    Parameters
    ----------
    session
        Whose tomograms are shown.
    data
        The labels to look through.
    jobs
        Of the window.
    """

    def __init__(self, session: Session, data: DataSource, jobs: Jobs) -> None:
        super().__init__()
        self._session = session
        self._data = data
        self.job = jobs.job("Looking for suspect labels")
        self.rows: list[dict[str, Any]] = []
        self.button = QPushButton("Find suspect labels")
        self.status = JobStatus(self.job)
        self.said = QLabel(wordWrap=True)
        self.table = QTableWidget(0, len(_COLUMNS))
        self._build()
        self.button.clicked.connect(self.start)
        self.job.done.connect(self.show_result)
        self.job.ended.connect(self.refresh)
        self.table.itemSelectionChanged.connect(self._go)
        data.valueChanged.connect(self.refresh)
        self.refresh()

    def start(self) -> None:
        """Start looking."""
        folder = Path(tempfile.mkdtemp(prefix="ectkd-suspects-"))
        try:
            settings = arguments(self._data.write(folder))
            out = ["--out", str(folder / "suspects.csv"), "--job", str(folder)]
            self.job.start(["suspects", *settings, *out], folder)
            self.status.clear()
        except EctkdError as error:
            self.status.say(str(error), is_error=True)
        self.refresh()

    def show_result(self, result: dict[str, Any]) -> None:
        """List what was found."""
        self.status.say("")
        self.rows = result["suspects"]
        self.said.setText(
            f"{result['n']} of {result['n_labels']} labels to look at again, the most "
            "suspect first. Click one to see it; the labels are not changed."
            if self.rows
            else f"None of {result['n_labels']} labels is suspect."
        )
        self.said.show()
        self.table.setRowCount(len(self.rows))
        self.table.setVisible(bool(self.rows))
        for i, row in enumerate(self.rows):
            where = row["tomogram"] or f"number {row['row']}"
            for j, text in enumerate((row["label"], row["suggested"], where)):
                self.table.setItem(i, j, QTableWidgetItem(text))

    def refresh(self) -> None:
        """Say why it cannot be looked, if it cannot."""
        problem = self._data.problem()
        if self.job.is_active:
            problem = "It is being looked already"
        elif not problem and self._data.box_px() is not None:
            n = sum(self._data.class_counts().values())
            if n < _ENOUGH:
                problem = f"{n} labels are too few to hold some of them out"
        set_problem(
            self.button,
            problem,
            "Trains four networks, each without a quarter of the labels, and lists the "
            "labels that a network which has not seen them is sure are wrong",
        )

    def _build(self) -> None:
        self.table.setHorizontalHeaderLabels(_COLUMNS)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setShowGrid(False)
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(22)
        self.table.setMinimumHeight(130)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.button, self.status, self.said, self.table):
            layout.addWidget(widget)
        self.said.hide()
        self.table.hide()

    def _go(self) -> None:
        """Show the chosen label in the viewer, its pick selected."""
        chosen = self.table.selectedIndexes()
        row = self.rows[chosen[0].row()] if chosen else None
        if row is None or row["tomogram"] not in self._session.tomograms:
            return
        name = row["tomogram"]
        self._session.set_current(name)
        position = np.array([row["z"], row["y"], row["x"]])
        picks = self._session.picks(name)
        layer = self._session.layers.points(name)
        if layer is not None and len(picks):
            distance = np.linalg.norm(picks.positions - position, axis=1)
            layer.selected_data = {int(distance.argmin())}
        show_position(self._session, position)
