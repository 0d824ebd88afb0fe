"""What every panel is: a column that scrolls, and that watches its window's closing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, Qt, QTimer
from qtpy.QtWidgets import (
    QFrame,
    QLabel,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_ectkd.gui.open_jobs import Jobs

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from qtpy.QtGui import QShowEvent


class Panel(QWidget):
    """A column of widgets for a task with a job; fits a dock of 350 px.

    Parameters
    ----------
    viewer
        Whose jobs the panel shows.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self.jobs = Jobs.of(viewer)
        content = QWidget()
        self.column = QVBoxLayout(content)
        self.column.setContentsMargins(6, 6, 6, 6)
        self.column.setSpacing(6)
        self.area = QScrollArea(widgetResizable=True)
        self.area.setFrameShape(QFrame.Shape.NoFrame)
        self.area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.area.setWidget(content)
        content.installEventFilter(self)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.area)
        self._looked_at: QWidget = content
        self._settled = QTimer(self, singleShot=True, interval=0)
        self._settled.timeout.connect(
            lambda: self.area.ensureWidgetVisible(self._looked_at)
        )

    def showEvent(self, event: QShowEvent) -> None:
        """Watch the window that the panel is in now."""
        super().showEvent(event)
        self.jobs.watch(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Keep the dock so wide that nothing is cut off, scroll bar included."""
        if event.type() in (QEvent.Type.LayoutRequest, QEvent.Type.Resize):
            bar = self.area.verticalScrollBar().sizeHint().width()
            needed = self.area.widget().minimumSizeHint().width() + bar
            if self.area.minimumWidth() != needed:
                self.area.setMinimumWidth(needed)
        return super().eventFilter(watched, event)

    def look_at(self, widget: QWidget) -> None:
        """Scroll to a widget, as soon as the layout knows its height."""
        self._looked_at = widget
        self._settled.start()

    def add_heading(self, text: str) -> None:
        """Add a heading to the column."""
        label = QLabel(text)
        font = label.font()
        font.setBold(True)
        label.setFont(font)
        self.column.addWidget(label)


def folded(title: str, widget: QWidget) -> QCollapsible:
    """Return a widget folded away under a title."""
    section = QCollapsible(title, expandedIcon="▼", collapsedIcon="▶")
    section.setDuration(0)  # an animated height fights with scroll areas
    section.layout().setContentsMargins(0, 0, 0, 0)
    section.addWidget(widget)
    return section


def set_problem(button: QPushButton, problem: str, otherwise: str) -> None:
    """Disable a button that cannot work, with a tooltip that says why."""
    button.setEnabled(not problem)
    button.setToolTip(f"<qt>{problem or otherwise}</qt>")
