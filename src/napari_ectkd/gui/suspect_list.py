"""Labels that a network confidently disagrees with, to be looked at one by one."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
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
    from collections.abc import Callable

    from napari_ectkd.gui.data_source import DataSource
    from napari_ectkd.gui.open_jobs import Jobs
    from napari_ectkd.gui.session import Session

_COLUMNS = ("Label", "Seems to be", "Where")
_LABEL = 0
_SAME_PLACE = 1.0
"""Å; the list has positions rounded by the file they come from."""
_ENOUGH = 8
"""Labels below which there is nothing to hold out."""


class SuspectList(QWidget):
    """Looks for suspect labels in a process of its own; each is then judged here.

    A click on a row shows its pick. The list follows what becomes of the labels, here
    or by other means, and says which rows were judged.

    Parameters
    ----------
    session
        Whose tomograms are shown.
    data
        The labels to look through.
    jobs
        Of the window.
    where
        The arguments that say what to compute on.
    """

    def __init__(
        self,
        session: Session,
        data: DataSource,
        jobs: Jobs,
        where: Callable[[], list[str]],
    ) -> None:
        super().__init__()
        self._session = session
        self._data = data
        self._where = where
        self.job = jobs.job("Looking for suspect labels")
        self.rows: list[dict[str, Any]] = []
        self.button = QPushButton("Find suspect labels")
        self.status = JobStatus(self.job)
        self.said = QLabel(wordWrap=True)
        self.table = QTableWidget(0, len(_COLUMNS))
        self.relabel_button = QPushButton("Relabel as it seems")
        self.keep_button = QPushButton("Keep the label")
        self._folder: Path | None = None
        self._n_labels = 0
        self._pick_ids: list[int | None] = []
        """Of each row; None where no open tomogram has the pick."""
        self._kept: set[int] = set()
        self._build()
        self.button.clicked.connect(self.start)
        self.relabel_button.clicked.connect(self.relabel)
        self.keep_button.clicked.connect(self.keep)
        session.picks_changed.connect(self._follow)
        session.tomograms_changed.connect(self._identify)
        self.job.done.connect(self.show_result)
        self.job.ended.connect(self._on_ended)
        self.table.itemSelectionChanged.connect(self._go)
        data.valueChanged.connect(self.refresh)
        self.refresh()

    def start(self) -> None:
        """Start looking."""
        folder = self._folder = Path(tempfile.mkdtemp(prefix="ectkd-suspects-"))
        try:
            settings = [*arguments(self._data.write(folder)), *self._where()]
            out = ["--out", str(folder / "suspects.csv"), "--job", str(folder)]
            self.job.start(["suspects", *settings, *out], folder)
            self.status.clear()
        except EctkdError as error:
            self.status.say(str(error), is_error=True)
        self.refresh()

    def _on_ended(self) -> None:
        if self._folder is not None:  # one that another window began is not ours
            shutil.rmtree(self._folder, ignore_errors=True)
        self.refresh()

    def show_result(self, result: dict[str, Any]) -> None:
        """List what was found."""
        self.status.say("")
        self.rows, self._n_labels = result["suspects"], result["n_labels"]
        self._kept.clear()
        self.said.show()
        self.table.clearSelection()
        self.table.setRowCount(len(self.rows))
        for widget in (self.table, self.relabel_button, self.keep_button):
            widget.setVisible(bool(self.rows))
        for i, row in enumerate(self.rows):
            where = row["tomogram"] or f"number {row['row']}"
            for j, text in enumerate((row["label"], row["suggested"], where)):
                self.table.setItem(i, j, QTableWidgetItem(text))
        self._identify()

    def relabel(self) -> None:
        """Give the chosen pick the class that it seems to be, and go on."""
        i = self._chosen()
        if i is None or (index := self._index(i)) is None:
            return
        self._kept.discard(i)
        self._session.set_current(self.rows[i]["tomogram"])
        self._session.assign(self.rows[i]["suggested"], [index])
        self._go_on(i)

    def keep(self) -> None:
        """Say that the label of the chosen row is right, and go on."""
        i = self._chosen()
        if i is not None:
            self._kept.add(i)
            self._follow()
            self._go_on(i)

    def refresh(self) -> None:
        """Say why it cannot be looked, if it cannot."""
        problem = self._data.problem()
        if self.job.is_active:
            problem = "It is being looked already"
        elif not problem and self._data.is_of_window():
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
        row = QHBoxLayout()
        row.addWidget(self.relabel_button)
        row.addWidget(self.keep_button)
        layout.addLayout(row)
        for hidden in (self.said, self.table, self.relabel_button, self.keep_button):
            hidden.hide()

    def _chosen(self) -> int | None:
        chosen = self.table.selectedIndexes()
        return chosen[0].row() if chosen else None

    def _identify(self) -> None:
        """Find the pick of each row among those of the open tomograms."""
        self._pick_ids = [self._pick_id(row) for row in self.rows]
        self._follow()

    def _pick_id(self, row: dict[str, Any]) -> int | None:
        if row["tomogram"] not in self._session.tomograms:
            return None
        picks = self._session.picks(row["tomogram"])
        position = np.array([row["z"], row["y"], row["x"]])
        distance = np.linalg.norm(picks.positions - position, axis=1)
        if not len(picks) or distance.min() > _SAME_PLACE:
            return None
        return int(picks.pick_id[distance.argmin()])

    def _index(self, i: int) -> int | None:
        """Return where the pick of a row is among its tomogram's, if it still is."""
        if self._pick_ids[i] is None:
            return None
        picks = self._session.picks(self.rows[i]["tomogram"])
        found = np.flatnonzero(picks.pick_id == self._pick_ids[i])
        return int(found[0]) if len(found) else None

    def _follow(self) -> None:
        """Say of each row what its label is by now, and how many are left."""
        n_judged = 0
        for i, row in enumerate(self.rows):
            text = row["label"]
            if self._pick_ids[i] is not None:
                index = self._index(i)
                picks = self._session.picks(row["tomogram"])
                now = "deleted" if index is None else picks.label[index] or "no label"
                text += f" → {now}" if now != row["label"] else ""
            is_judged = text != row["label"] or i in self._kept
            n_judged += is_judged
            self.table.item(i, _LABEL).setText(f"✓ {text}" if is_judged else text)
        n = len(self.rows)
        self.said.setText(
            f"{n} of {self._n_labels} labels to look at again, the most suspect first; "
            f"{n_judged} judged. Click one to see it."
            if n
            else f"None of {self._n_labels} labels is suspect."
        )
        self._refresh_buttons()

    def _refresh_buttons(self) -> None:
        i = self._chosen()
        problem = "Choose a row first" if i is None else ""
        set_problem(self.keep_button, problem, "It is right: on to the next")
        if i is not None and self._index(i) is None:
            problem = "Its pick is in no open tomogram"
        seems = "" if i is None else self.rows[i]["suggested"]
        set_problem(self.relabel_button, problem, f"Label it {seems}, on to the next")

    def _go_on(self, i: int) -> None:
        """Choose the next row that nobody judged."""
        n = len(self.rows)
        for j in [*range(i + 1, n), *range(i)]:
            if not self.table.item(j, _LABEL).text().startswith("✓"):
                self.table.selectRow(j)
                return

    def _go(self) -> None:
        """Show the chosen label in the viewer, its pick selected."""
        self._refresh_buttons()
        i = self._chosen()
        if i is None or self.rows[i]["tomogram"] not in self._session.tomograms:
            return
        row = self.rows[i]
        self._session.set_current(row["tomogram"])
        index = self._index(i)
        layer = self._session.layers.points(row["tomogram"])
        if layer is not None and index is not None:
            layer.selected_data = {index}
        show_position(self._session, np.array([row["z"], row["y"], row["x"]]))
