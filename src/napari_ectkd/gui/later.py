"""Drawing once what was told many times: the log of a long run is read at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtWidgets import QWidget


def later(owner: QWidget, draw: Callable[[], None]) -> QTimer:
    """Return a timer that, once started, draws as soon as nothing else is to be done.

    Started again before that, it still draws once.
    """
    timer = QTimer(owner, singleShot=True, interval=0)
    timer.timeout.connect(draw)
    return timer
