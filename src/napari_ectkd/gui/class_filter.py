"""Classes with their color, number of picks and a box to show or hide them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QListWidget, QListWidgetItem, QSizePolicy

from napari_ectkd.gui.layers import shown_class
from napari_ectkd.io.picks import NONE, UNKNOWN, UNLABELED

if TYPE_CHECKING:
    from napari_ectkd.gui.session import Session

_NAME = Qt.ItemDataRole.UserRole


class ClassFilter(QListWidget):
    """A legend of what the picks of all tomograms are shown as; unchecked is hidden."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._shown: list[tuple[str, int, str, bool]] = []
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.itemChanged.connect(self._on_checked)
        session.picks_changed.connect(self.refresh)
        session.classes_changed.connect(self.refresh)
        session.tomograms_changed.connect(self.refresh)
        self.refresh()

    def counts(self) -> dict[str, int]:
        """Return how many picks are shown as each class, classes in order."""
        session = self._session
        found = Counter(shown_class(session.all_picks(), session.min_confidence))
        order = [*session.classes, NONE, UNKNOWN, UNLABELED]
        return {name: found[name] for name in order if name in found}

    def refresh(self) -> None:
        """Show the numbers of now."""
        session = self._session
        rows = [
            (name, n, session.palette.color(name), name not in session.hidden)
            for name, n in self.counts().items()
        ]
        if rows == self._shown:
            return
        self._shown = rows
        self.blockSignals(True)
        self.clear()
        for name, n, color, is_shown in rows:
            swatch = QPixmap(12, 12)
            swatch.fill(QColor(color))
            item = QListWidgetItem(f"{name or 'not classified'}   {n}")
            item.setIcon(QIcon(swatch))
            item.setData(_NAME, name)
            state = Qt.CheckState.Checked if is_shown else Qt.CheckState.Unchecked
            item.setCheckState(state)
            item.setToolTip("Uncheck to hide these picks")
            self.addItem(item)
        self.blockSignals(False)
        height = sum(self.sizeHintForRow(row) for row in range(len(rows)))
        self.setFixedHeight(min(height + 2 * self.frameWidth() + 4, 260))
        self.setVisible(bool(rows))

    def _on_checked(self) -> None:
        items = [self.item(row) for row in range(self.count())]
        names = {item.data(_NAME) for item in items}
        shown = {
            i.data(_NAME) for i in items if i.checkState() == Qt.CheckState.Checked
        }
        self._session.set_hidden(self._session.hidden - shown | (names - shown))
