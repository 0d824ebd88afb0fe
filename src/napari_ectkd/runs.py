"""Work in a folder: its event log, its cancel request, and for a run its checkpoints.

A job is anything long that a process of its own does. Its folder holds `events.jsonl`
(one event a line, see `events`), `process.json` (who does it) and, once somebody asks
to stop, `cancel`. Whoever can see the folder can follow and cancel the job, also after
the program that started it is gone.

A run is a job that makes a model. Its folder holds `config.json`, `best.safetensors`,
`last.safetensors` and, while unfinished, `resume.safetensors` too; besides, what the
run depended on (`environment.json`), what the network saw (`examples.npz`), and a model
card. The run of an ensemble has one such folder a member in it.
"""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_ectkd.errors import ConfigError, FileMissingError, FormatError
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

State = Literal[
    "new", "queued", "running", "finished", "failed", "cancelled", "interrupted"
]

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
        """Ask the job to stop; it does within two batches."""
        self.cancel_path.touch()

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
        if self._is_elsewhere():
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
        import psutil

        facts = self._process()
        if facts.get("host", platform.node()) != platform.node():
            return self._has_spoken_lately()
        try:
            process = psutil.Process(facts["pid"])
            is_same = abs(process.create_time() - facts["created"]) < 1
            return bool(is_same and process.status() != psutil.STATUS_ZOMBIE)
        except (psutil.Error, KeyError, TypeError):
            return False

    def state(self) -> State:
        """Return what became of the job; `interrupted` if it was killed."""
        if not self.events_path.exists():
            if self.is_running():
                return "running"
            return "queued" if self.queue_path.exists() else "new"
        last: Event | None = None
        for event in self.events():
            last = event
        is_finished = isinstance(last, Finished)
        # This process may have gone on to other work: the demo's opens a window.
        if is_finished and self._process().get("pid") == os.getpid():
            return "finished"
        if self.is_running():
            return "running"
        if is_finished:
            return "finished"
        if isinstance(last, Failed):
            return "failed"
        return "cancelled" if isinstance(last, Cancelled) else "interrupted"

    def _has_spoken_lately(self) -> bool:
        last: Event | None = None
        for event in self.events():
            last = event
        if isinstance(last, Finished | Failed | Cancelled):
            return False
        try:
            paths = (self.events_path, self.path / "process.json")
            newest = max(path.stat().st_mtime for path in paths if path.exists())
        except ValueError:
            return False
        return time.time() - newest < HEARTBEAT

    def _is_elsewhere(self) -> bool:
        """Whether another living process does the job."""
        facts = self._process()
        # On two machines, or in two containers, processes may have the same number.
        is_here = facts.get("host", platform.node()) == platform.node()
        is_ours = is_here and facts.get("pid") == os.getpid()
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

    def _process(self) -> dict[str, Any]:
        try:
            facts = json.loads((self.path / "process.json").read_text())
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}


MEMBER = "member-"
"""What the folders of an ensemble's members are called, before their number."""


def members_of(path: Path) -> list[Path]:
    """Return the folders of an ensemble's members; the path itself of anything else."""
    members = Run(path).members() if path.is_dir() else []
    return [member.path for member in members] or [path]


class Run(JobFolder):
    """The folder of a run: a job that makes a model."""

    @property
    def best_path(self) -> Path:
        """The model to use: of lowest validation loss, or learned from all labels."""
        return self.path / "best.safetensors"

    @property
    def validated_path(self) -> Path:
        """The checkpoint that the figures are of, if another learned from all."""
        return self.path / "validated.safetensors"

    @property
    def on_all(self) -> Run:
        """The unfinished run of a model that learns from all labels, inside this."""
        return Run(self.path / "all-labels")

    @property
    def last_path(self) -> Path:
        """The checkpoint of the last epoch."""
        return self.path / "last.safetensors"

    @property
    def resume_path(self) -> Path:
        """What is needed to go on where the run stopped."""
        return self.path / "resume.safetensors"

    @property
    def examples_path(self) -> Path:
        """What the network sees: slices of some augmented subtomograms."""
        return self.path / "examples.npz"

    @property
    def environment_path(self) -> Path:
        """Versions, device and threads, and the data's fingerprint."""
        return self.path / "environment.json"

    @property
    def card_path(self) -> Path:
        """The model card, in Markdown; the same as JSON is beside it."""
        return self.path / "model_card.md"

    @property
    def baseline(self) -> Run:
        """The run of the same student on labels alone, inside a distillation's."""
        return Run(self.path / "labels-alone")

    @property
    def search_path(self) -> Path:
        """The tuner's journal, of a run that searches for the smallest student."""
        return self.path / "search.journal"

    @property
    def config_path(self) -> Path:
        """The settings that the run was started with."""
        return self.path / "config.json"

    def create(self, config: dict[str, Any]) -> None:
        """Make the folder and write the settings (JSON values) into it.

        A run that ended before it saved anything, say since its data was not there, is
        begun anew; its log goes on.

        Raises
        ------
        ConfigError
            If there is a run in it already.
        WriteError
            If it cannot be written.
        """
        if self.path.is_file():
            raise ConfigError(f"{self.path} is a file; name a new folder for the run")
        saved = (self.best_path, self.last_path, self.resume_path)
        if any(path.exists() for path in saved) or self._is_elsewhere():
            raise ConfigError(
                f"{self.path} holds a run already; name a new folder, or go on with "
                "that run (--resume)"
            )
        make_folder(self.path)
        self.environment_path.unlink(missing_ok=True)  # of a run that saved nothing
        with atomic_path(self.config_path) as temporary:
            temporary.write_text(json.dumps(config, indent=1) + "\n")

    def members(self) -> list[Run]:
        """Return the runs of an ensemble's members in order; of a model, none."""
        numbered = [
            (int(path.name.removeprefix(MEMBER)), path)
            for path in self.path.glob(f"{MEMBER}*")
            if path.is_dir() and path.name.removeprefix(MEMBER).isdigit()
        ]
        return [Run(path) for _, path in sorted(numbered)]

    def member(self, number: int) -> Run:
        """Return the run of one member of an ensemble, from 1."""
        return Run(self.path / f"{MEMBER}{number}")

    def can_resume(self) -> bool:
        """Return whether there is a state to go on from."""
        # Of an ensemble, what is over is there, and what is not may begin anew.
        in_parts = bool(self.members()) or self.search_path.exists()
        in_parts = in_parts or self.baseline.path.exists()
        in_parts = in_parts and not self.best_path.exists()
        return self.resume_path.exists() or self.on_all.path.exists() or in_parts

    def check_resumable(self) -> None:
        """Raise `FileMissingError` if there is no state to go on from."""
        if not self.can_resume():
            raise FileMissingError(
                f"{self.path}: nothing to resume; the run finished, or had not come to "
                "the end of an epoch: start a new one"
            )

    def config(self) -> dict[str, Any]:
        """Return the settings that the run was started with.

        Raises
        ------
        FileMissingError
            If the folder is no run.
        FormatError
            If the file is broken.
        """
        try:
            config = json.loads(self.config_path.read_text())
        except OSError as error:
            raise FileMissingError(
                f"{self.path}: no run (no config.json in it)"
            ) from error
        except ValueError as error:
            raise FormatError(f"{self.config_path}: broken JSON ({error})") from error
        if not isinstance(config, dict):
            raise FormatError(f"{self.config_path}: broken, these are no settings")
        return config
