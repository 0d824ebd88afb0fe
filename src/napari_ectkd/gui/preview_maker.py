"""Makes previews in a thread: the newest request counts, older ones are dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_ectkd.errors import EctkdError
from napari_ectkd.events import Cancel, CancelledError

if TYPE_CHECKING:
    from napari_ectkd.simulation.config import Simulation
    from napari_ectkd.simulation.preview import Preview


class PreviewMaker(QObject):
    """One preview at a time.

    A thread serves: it takes a second, shares arrays with the picture, and spends its
    time in torch and scipy, which leave the interpreter to the window.
    """

    made = Signal(object)
    failed = Signal(str)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._next: Simulation | None = None
        self._cancel: Cancel | None = None

    @property
    def is_active(self) -> bool:
        """Whether a preview is being made."""
        return self._cancel is not None

    def make(self, config: Simulation) -> None:
        """Make a preview; it comes by `made`, or a text by `failed`."""
        self._next = config
        if self._cancel is not None:
            self._cancel.request()
        else:
            self._begin()

    def stop(self) -> None:
        """Drop what is being made."""
        self._next = None
        if self._cancel is not None:
            self._cancel.request()

    def _begin(self) -> None:
        from superqt.utils import create_worker

        config, self._next = self._next, None
        self._cancel = Cancel()
        worker = create_worker(_preview, config, self._cancel)
        worker.returned.connect(self._returned)
        worker.errored.connect(self._errored)
        worker.start()

    def _returned(self, found: Preview | str | None) -> None:
        is_stale = self._cancel is not None and self._cancel.is_requested
        self._cancel = None
        if self._next is not None:
            self._begin()
        elif isinstance(found, str):
            self.failed.emit(found)
        elif found is not None and not is_stale:
            self.made.emit(found)

    def _errored(self, error: Exception) -> None:
        self._cancel = None
        raise error  # a bug: napari shows its traceback


def _preview(config: Simulation, cancel: Cancel) -> Preview | str | None:
    """Return a preview, what is wrong with the settings, or nothing if cancelled."""
    from napari_ectkd.simulation.preview import preview_subtomograms

    try:
        return preview_subtomograms(config, cancel=cancel)
    except CancelledError:
        return None
    except EctkdError as error:
        return str(error)
