"""One worker process and its events as Qt signals.

The worker is the command line's own command with a job folder; the window only reads
the folder's event log. A crash or an out-of-memory kill costs one job and not the
session, and a job that outlives the window is attached again by its folder alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar

import psutil
from qtpy.QtCore import QObject, QTimer, Signal

from napari_ectkd.devices.environment import allocator_environment
from napari_ectkd.events import Cancelled, Failed, Finished, Progress, parse_event
from napari_ectkd.io.atomic import make_folder
from napari_ectkd.jobs import JobFolder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_ectkd.events import Event

_INTERVAL_MS = 100
_CHUNK = 2**18
"""Bytes of the log read at once, so that a long one does not hold up the window."""


class Job(QObject):
    """The work of one process in one folder.

    `progressed` comes for each event; then one of `done`, `failed` and `cancelled`, and
    last, always and once, `ended`.
    """

    progressed = Signal(object)
    done = Signal(dict)
    failed = Signal(str)
    cancelled = Signal()
    ended = Signal()

    program: ClassVar[list[str]] = [sys.executable, "-P", "-m", "napari_ectkd"]
    """What `start` puts before the arguments."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.folder: Path | None = None
        self.history: list[Event] = []
        self.details = ""
        self.is_cancelling = False
        self._popen: subprocess.Popen | None = None
        self._process: psutil.Process | None = None
        self._is_killed = False
        self._log = LogTail(Path())
        self._last: Event | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(_INTERVAL_MS)
        self._timer.timeout.connect(self._poll)

    @property
    def is_active(self) -> bool:
        """Whether the job has begun and not ended."""
        return self._timer.isActive()

    @property
    def is_waiting(self) -> bool:
        """Whether a scheduler has the job and has not begun it."""
        is_elsewhere = self.is_active and self._popen is None
        return is_elsewhere and JobFolder(self.folder).is_waiting()

    def start(self, arguments: Sequence[str], folder: Path) -> None:
        """Start the worker with a job folder; earlier events of the folder come first.

        Raises
        ------
        WriteError
            If the folder cannot be written.
        """
        folder = make_folder(Path(folder).absolute())
        self._follow(folder)
        for event in self._log.rest():  # of an interrupted run that is to go on
            if not isinstance(event, Finished | Failed | Cancelled):
                self._tell(event)
        self._last = None
        JobFolder(folder).cancel_path.unlink(missing_ok=True)
        with (folder / "output.txt").open("wb") as output:
            self._popen = subprocess.Popen(
                [*self.program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **allocator_environment(), "PYTHONUNBUFFERED": "1"},
                **_own_session(),
            )
        self._process = _find_process(self._popen.pid)

    def attach(self, folder: Path) -> None:
        """Follow a job that another session started, or show one that is over."""
        self._follow(Path(folder).absolute())
        self._process = JobFolder(self.folder).process()

    def cancel(self) -> None:
        """Ask the worker to stop; it does within two batches."""
        if self.is_active:
            self.is_cancelling = True
            JobFolder(self.folder).request_cancel()

    def kill(self) -> None:
        """End the worker and its children at once; what is in the folder stays."""
        if not self.is_active or self._process is None:
            return
        self._is_killed = True
        for process in [*_children(self._process), self._process]:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue

    def stop(self, seconds: float) -> None:
        """Ask the worker to stop, wait so long, then kill it. For a closing window."""
        self.cancel()
        if self.is_active and self._process is not None:
            # Popen reaps its own child, where psutil would take its exit code away.
            process = self._popen or self._process
            try:
                process.wait(seconds)
            except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
                self.kill()
                self._wait_for(process, seconds)
        while self.is_active and not self._lives():
            self._poll()

    def _wait_for(
        self, process: psutil.Process | subprocess.Popen[bytes], seconds: float
    ) -> None:
        """Wait for the end of a process that was killed, and leave it if it lingers.

        That of a GPU's memory may take its time.
        """
        try:
            process.wait(seconds)
        except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
            self.detach()

    def detach(self) -> None:
        """Follow the job no longer, and leave its process running."""
        self._timer.stop()
        if self._popen is not None:
            _LEFT.append(self._popen)
            self._popen = None

    def _follow(self, folder: Path) -> None:
        if self.is_active:
            raise RuntimeError(f"this job still works in {self.folder}")
        self.folder = folder
        self.history = []
        self.details = ""
        self.is_cancelling = self._is_killed = False
        self._popen = self._process = self._last = None
        self._log = LogTail(JobFolder(folder).events_path)
        self._timer.start()

    def _poll(self) -> None:
        if not self.is_active:
            return
        # Looked at before reading: what it wrote last is read after its end.
        has_ended = not self._lives()
        if self.is_cancelling and not has_ended:
            # A worker that was still importing has forgotten an earlier request.
            JobFolder(self.folder).request_cancel()
        for event in self._log.next():
            self._tell(event)
            if not self.is_active:
                return  # a listener has let go of the job
        if has_ended and not self._log.has_more():
            self._end()

    def _lives(self) -> bool:
        if self._popen is not None:
            return self._popen.poll() is None
        job = JobFolder(self.folder)
        return job.is_running() or job.is_waiting()

    def _tell(self, event: Event) -> None:
        self._last = event
        if self.history and isinstance(self.history[-1], Progress):
            self.history.pop()  # only the newest is of use later
        self.history.append(event)
        self.progressed.emit(event)

    def _end(self) -> None:
        self._timer.stop()
        _reap()
        last = self._last
        if isinstance(last, Finished):
            self.done.emit(last.result)
        elif isinstance(last, Failed):
            self.details = last.details
            self.failed.emit(last.message)
        elif self._was_cancelled():
            self.cancelled.emit()
        else:
            self.details = _tail(self.folder / "output.txt")
            self.failed.emit(self._how_it_died())
        self.ended.emit()

    def _was_cancelled(self) -> bool:
        """Whether somebody asked it to stop, be it before it began."""
        is_said = isinstance(self._last, Cancelled) or self._is_killed
        return is_said or JobFolder(self.folder).state() == "cancelled"

    def _how_it_died(self) -> str:
        if self._popen is None:
            return (
                "The process is gone and did not say why: it was killed, most likely "
                "because memory ran out, or the machine was restarted. What it had "
                "saved is kept."
            )
        code = self._popen.returncode
        if code == -9:
            return (
                "The process was killed, most likely because memory ran out. Take a "
                "smaller batch, a smaller box or a smaller network. What it had saved "
                "is kept."
            )
        ending = f"signal {-code}" if code < 0 else f"exit code {code}"
        said = self.details.splitlines()[-1] if self.details else "It said nothing."
        return f"The process stopped unexpectedly ({ending}). {said}"


class LogTail:
    """The part of an event log that was not read yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._half = b""

    def next(self) -> Iterator[Event]:
        """Yield the events of the next chunk; a half-written line waits."""
        try:
            with self._path.open("rb") as file:
                data = self._read(file)
        except FileNotFoundError:
            return
        *lines, self._half = (self._half + data).split(b"\n")
        for line in lines:
            try:
                yield parse_event(line)
            except ValueError:
                continue  # a process was killed while it wrote this line

    def rest(self) -> Iterator[Event]:
        """Yield the events of all chunks."""
        while self.has_more():
            yield from self.next()

    def has_more(self) -> bool:
        """Return whether the log has grown since it was read."""
        try:
            return self._path.stat().st_size > self._offset
        except FileNotFoundError:
            return False

    def _read(self, file: IO[bytes]) -> bytes:
        file.seek(self._offset)
        data = file.read(_CHUNK)
        self._offset += len(data)
        return data


_LEFT: list[subprocess.Popen] = []
"""Processes that go on without us: Python would warn of a handle thrown away."""


def _reap() -> None:
    """Forget the processes that have ended; unasked, they would stay as zombies."""
    _LEFT[:] = [process for process in _LEFT if process.poll() is None]


def _own_session() -> dict[str, Any]:
    """Return what keeps a Ctrl+C in napari's terminal from reaching the worker."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _find_process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _tail(path: Path, n_bytes: int = 4000) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - n_bytes, 0))
            return file.read().decode(errors="replace").strip()
    except FileNotFoundError:
        return ""
