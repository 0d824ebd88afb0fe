"""One run in several processes on this machine, started by torchrun.

torchrun comes with torch and starts, watches and ends the processes; this one follows
the run's event log and shows it. Several machines are a cluster's business, see
`submit`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from napari_ectkd.cli.drive import drive
from napari_ectkd.cli.worker import QUEUED, RESUME
from napari_ectkd.errors import DataError
from napari_ectkd.events import Cancelled, CancelledError, Failed
from napari_ectkd.jobs import BEGUN_BY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_ectkd.cli.console import Console
    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.runs import Run

PATIENCE = 120.0
"""Seconds after which processes that were asked to stop are ended."""
_INTERVAL = 0.2
_GOODBYE = 5.0
"""Seconds for processes that have come to an end, or are about to."""
_TAIL = 2000


def carry_out_together(
    run: Run, n: int, console: Console, *, is_resumed: bool
) -> dict[str, Any]:
    """Carry out a run in n processes that share each batch; return the result.

    Raises
    ------
    EctkdError, CancelledError
        As the stage.
    RuntimeError
        If the processes died without saying why.
    """
    # At once, as a single process does: theirs take seconds to start.
    run.begin()
    return drive(lambda cancel: _follow(run, n, is_resumed, cancel), console)


def _follow(run: Run, n: int, is_resumed: bool, cancel: Cancel) -> Iterator[Event]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(n), "-m", "napari_ectkd.cli.worker"]
    command += [str(run.path), QUEUED, *([RESUME] if is_resumed else [])]
    n_before = sum(1 for _ in run.events())
    said = run.path / "workers.txt"
    with said.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_threads(n), BEGUN_BY: str(os.getpid())},
            start_new_session=True,  # Ctrl+C is ours: it asks, and they end in order
        )
        failed: Failed | None = None
        patience = PATIENCE
        try:
            has_ended = False
            while not has_ended:
                has_ended = process.poll() is not None
                if cancel.is_requested:
                    run.request_cancel()
                if run.cancel_path.exists():
                    patience -= _INTERVAL
                if patience < 0:
                    break  # they may be waiting for each other
                for number, event in enumerate(run.events()):
                    if number >= n_before:
                        n_before = number + 1
                        failed = event if isinstance(event, Failed) else None
                        _check(event)
                        yield event
                time.sleep(0 if has_ended else _INTERVAL)
        finally:
            _end(process)
            if failed is not None:  # what the others said as they ended is no reason
                run.log_last(failed)
    tail = said.read_bytes()[-_TAIL:].decode(errors="replace")
    if patience < 0:
        run.log_last(Cancelled())
        raise CancelledError("cancelled")
    failed = Failed(message="the processes stopped and did not say why", details=tail)
    run.log_failure(failed)
    raise RuntimeError(f"{failed.message}:\n{tail}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for torchrun, which may be about to end, then ask it to, once.

    It asks its processes, and kills them after half a minute. Asked again it would end
    before that.
    """
    try:
        process.wait(_GOODBYE)
    except subprocess.TimeoutExpired:
        process.terminate()
        process.wait()


def _check(event: Event) -> None:
    """Raise what an event says went wrong."""
    if isinstance(event, Cancelled):
        raise CancelledError("cancelled")
    if isinstance(event, Failed):
        if event.details:
            raise RuntimeError(f"{event.message}\n{event.details}")
        raise DataError(event.message)


def _threads(n: int) -> dict[str, str]:
    """Return how many threads each process may have."""
    ours = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
    return {"OMP_NUM_THREADS": str(max(1, ours // n))}
