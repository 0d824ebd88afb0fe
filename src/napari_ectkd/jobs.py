"""Work in a folder: its event log, who does it, and the request to stop.

A job is anything long that a process of its own does. Its folder holds `events.jsonl`
(one event a line, see `events`), `process.json` (who does it) and, once somebody asks
to stop, `cancel`. Whoever can see the folder can follow and cancel the job, also after
the program that started it is gone.
"""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_ectkd.errors import ConfigError
from napari_ectkd.events import (
    Cancel,
    Cancelled,
    Event,
    Failed,
    Finished,
    parse_event,
)
from napari_ectkd.io.atomic import atomic_path, cannot_write, make_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psutil

State = Literal[
    "new", "queued", "running", "finished", "failed", "cancelled", "interrupted"
]

BEGUN_BY = "ECTKD_BEGUN_BY"
"""Environment variable with the number of the process that began a job of several."""
_LAST = (Finished, Failed, Cancelled)
HEARTBEAT = 900.0
"""Seconds without an event after which a job on another machine counts as dead."""


class JobFolder:
    """The folder of one job; holds no state but its path."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @property
    def events_path(self) -> Path:
        """The event log."""
        return self.path / "events.jsonl"

    @property
    def cancel_path(self) -> Path:
        """The file whose existence asks the job to stop."""
        return self.path / "cancel"

    @property
    def queue_path(self) -> Path:
        """What a scheduler said when the job was handed to it."""
        return self.path / "queue.json"

    def request_cancel(self) -> None:
        """Ask the job to stop; it does within two batches.

        Raises
        ------
        WriteError
            If the folder cannot be written.
        """
        try:
            self.cancel_path.touch()
        except OSError as error:
            raise cannot_write(self.cancel_path, error) from error

    def cancel(self) -> Cancel:
        """Return what the job's work looks at once per batch."""
        return Cancel(self.cancel_path)

    def begin(self, *, was_queued: bool = False) -> None:
        """Say that this process does the job; forget an earlier cancel request.

        Parameters
        ----------
        was_queued
            Whether somebody may have asked to stop while the job waited for its turn:
            then the request counts.

        Raises
        ------
        ConfigError
            If another living process does it.
        WriteError
            If the folder cannot be written.
        """
        import psutil

        make_folder(self.path)
        if self.is_elsewhere():
            raise ConfigError(f"{self.path}: another process is at work in this folder")
        if not was_queued:
            self.cancel_path.unlink(missing_ok=True)
        self._end_last_line()
        process = psutil.Process()
        with atomic_path(self.path / "process.json") as temporary:
            temporary.write_text(
                json.dumps(
                    {
                        "pid": process.pid,
                        "created": process.create_time(),
                        "host": platform.node(),
                        "slurm_job": os.environ.get("SLURM_JOB_ID"),
                    }
                )
            )

    def log(self, event: Event) -> None:
        """Append an event to the log.

        Raises
        ------
        WriteError
            If the log cannot be written.
        """
        try:
            with self.events_path.open("a", encoding="utf-8") as file:
                file.write(event.line() + "\n")
        except OSError as error:
            raise cannot_write(self.events_path, error) from error

    def log_failure(self, failed: Failed) -> None:
        """Append that the job failed, unless another of its processes said why.

        Of several processes the first to fail takes the others with it.
        """
        if not (self._has_logged() and isinstance(self._last_event(), _LAST)):
            self.log(failed)

    def log_last(self, event: Event) -> None:
        """Append an event, unless it is the last one."""
        if self._last_event() != event:
            self.log(event)

    def _has_logged(self) -> bool:
        """Return whether there are events since the job was begun."""
        try:
            begun = (self.path / "process.json").stat().st_mtime_ns
            return self.events_path.stat().st_mtime_ns > begun
        except OSError:
            return False

    def events(self) -> Iterator[Event]:
        """Yield the events logged so far; a half-written last line is left out."""
        if not self.events_path.exists():
            return
        # What was cut off within a character is cut off: its line is left out below.
        with self.events_path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.endswith("\n"):
                    try:
                        yield parse_event(line)
                    except ValueError:
                        continue  # a process was killed while it wrote this line

    def is_running(self) -> bool:
        """Return whether the process that began the job lives.

        On another machine (a cluster's) it does if it said something lately.
        """
        if self._facts().get("host", platform.node()) != platform.node():
            return self._has_spoken_lately()
        return self.process() is not None

    def process(self) -> psutil.Process | None:
        """Return the living process of this machine that does the job, if one does."""
        import psutil

        facts = self._facts()
        if facts.get("host", platform.node()) != platform.node():
            return None
        try:
            process = psutil.Process(facts["pid"])
            is_same = abs(process.create_time() - facts["created"]) < 1
            is_alive = is_same and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, KeyError, TypeError):
            return None
        return process if is_alive else None

    def is_waiting(self) -> bool:
        """Return whether the job was handed to a scheduler and has not begun since.

        One that somebody asks to stop meanwhile is over: it will not begin.
        """
        try:
            handed = self.queue_path.stat().st_mtime_ns
        except OSError:
            return False
        try:
            begun = (self.path / "process.json").stat().st_mtime_ns
        except OSError:
            begun = -1
        return begun < handed and not self.cancel_path.exists()

    def state(self) -> State:
        """Return what became of the job; `interrupted` if it was killed."""
        last = self._last_event()
        is_finished = isinstance(last, Finished)
        # This process may have gone on to other work: the demo's opens a window.
        if is_finished and self._facts().get("pid") == os.getpid():
            return "finished"
        if self.is_running():
            return "running"
        if is_finished:
            return "finished"
        if self.is_waiting():
            return "queued"
        if isinstance(last, Failed):
            return "failed"
        if isinstance(last, Cancelled) or self._was_cancelled_in_the_queue():
            return "cancelled"
        return "interrupted" if self.events_path.exists() else "new"

    def _was_cancelled_in_the_queue(self) -> bool:
        return self.queue_path.exists() and self.cancel_path.exists()

    def _last_event(self) -> Event | None:
        """Return the last event that was logged whole."""
        try:
            lines = self.events_path.read_bytes().splitlines(keepends=True)
        except OSError:
            return None
        for line in reversed(lines):
            if line.endswith(b"\n"):
                try:
                    return parse_event(line.decode(errors="replace"))
                except ValueError:
                    continue  # a process was killed while it wrote this line
        return None

    def _has_spoken_lately(self) -> bool:
        if isinstance(self._last_event(), _LAST):
            return False
        try:
            paths = (self.events_path, self.path / "process.json")
            newest = max(path.stat().st_mtime for path in paths if path.exists())
        except ValueError:
            return False
        return time.time() - newest < HEARTBEAT

    def is_elsewhere(self) -> bool:
        """Return whether another living process does the job.

        A cluster's job that was begun anew on another machine is the same one. A run's
        processes were begun by another, which named itself.
        """
        facts = self._facts()
        # On two machines, or in two containers, processes may have the same number.
        is_here = facts.get("host", platform.node()) == platform.node()
        ours = (str(os.getpid()), os.environ.get(BEGUN_BY))
        is_ours = is_here and str(facts.get("pid")) in ours
        slurm_job = facts.get("slurm_job")
        if not is_here and slurm_job:
            is_ours = slurm_job == os.environ.get("SLURM_JOB_ID")
        return self.is_running() and not is_ours

    def _end_last_line(self) -> None:
        """End a line that a killed process left half-written: the next is another."""
        if not self.events_path.exists():
            return
        try:
            with self.events_path.open("rb+") as file:
                size = file.seek(0, os.SEEK_END)
                if size:
                    file.seek(size - 1)
                    if file.read(1) != b"\n":
                        file.write(b"\n")
        except OSError as error:
            raise cannot_write(self.events_path, error) from error

    def _facts(self) -> dict[str, Any]:
        try:
            facts = json.loads((self.path / "process.json").read_text())
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}
