"""The runs of a folder as the rows of a table, read again where they have changed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QTableWidget,
    QTableWidgetItem,
)

from napari_ectkd.runs import Run
from napari_ectkd.training.run_list import FoundRun, can_resume, find_run, last_epoch

if TYPE_CHECKING:
    from pathlib import Path

_COLUMNS = ("Run", "State", "Epoch", "Accuracy")


class RunsInFolder:
    """The runs of a folder, the newest first; a log is read only where it has grown."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[float, FoundRun, str]] = {}

    def look(self, folder: Path | None) -> list[tuple[str, ...]]:
        """Look at a folder, again; return the rows of the table."""
        paths = []
        if folder is not None and folder.is_dir():
            paths = [path for path in folder.iterdir() if path.is_dir()]
        found: dict[Path, tuple[float, FoundRun, str]] = {}
        for path in paths:
            changed = _changed(path)
            before = self._known.get(path)
            is_settled = before is not None and before[1].state not in (
                *("running", "queued", "new"),
            )
            if before is not None and before[0] == changed and is_settled:
                found[path] = before
            elif (run := find_run(path)) is not None:
                last = last_epoch(Run(path))
                epoch = f"{last.epoch}/{last.epochs}" if last else "–"
                found[path] = (changed, run, epoch)
        ordered = sorted(found.items(), key=lambda item: _born(item[0]), reverse=True)
        self._known = dict(ordered)
        return [_row(run, epoch) for _, run, epoch in self._known.values()]

    def runs(self) -> list[FoundRun]:
        """Return the runs that were there, in the order of the rows."""
        return [run for _, run, _ in self._known.values()]


class RunTable(QTableWidget):
    """Runs as rows; several can be selected."""

    def __init__(self) -> None:
        super().__init__(0, len(_COLUMNS))
        self.rows: list[tuple[str, ...]] = []
        self.setHorizontalHeaderLabels(_COLUMNS)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setShowGrid(False)
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(22)
        self.setMinimumHeight(150)
        self.setMaximumHeight(220)
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)

    def show_rows(self, rows: list[tuple[str, ...]]) -> None:
        """Show other rows."""
        self.rows = rows
        self.setRowCount(len(rows))
        for i, row in enumerate(rows):
            for j, text in enumerate(row[: len(_COLUMNS)]):
                item = QTableWidgetItem(text)
                item.setToolTip(row[-1])
                self.setItem(i, j, item)

    def select(self, row: int) -> None:
        """Select one more row."""
        for column in range(self.columnCount()):
            if item := self.item(row, column):
                item.setSelected(True)


def _row(run: FoundRun, epoch: str) -> tuple[str, ...]:
    """Return a table's row, and last its tooltip."""
    accuracy = run.val_accuracy
    state = run.state
    if can_resume(run):
        state = f"{state}, can resume"
    model = run.info.model if run.info else "no model yet"
    return (
        run.path.name,
        state,
        epoch,
        "–" if accuracy is None else f"{accuracy:.1%}",
        f"{run.kind or 'model'}: {model}\n{run.path}",
    )


def _changed(path: Path) -> float:
    """Return when a run's files last changed."""
    newest = 0.0
    # process.json: a run that begins again has not said anything yet.
    names = ("events.jsonl", "config.json", "process.json", "queue.json")
    for name in (*names, "best.safetensors"):
        try:
            newest = max(newest, (path / name).stat().st_mtime)
        except OSError:
            continue
    return newest


def _born(path: Path) -> float:
    """Return when a run was made: its place in the list, which epochs don't change."""
    try:
        return (path / "config.json").stat().st_mtime
    except OSError:
        return time.time()
