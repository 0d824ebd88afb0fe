"""Draining a stream of events: into the console, and into a job's log."""

from __future__ import annotations

import re
import signal
import threading
import traceback
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from napari_ectkd.devices.memory import is_out_of_memory
from napari_ectkd.errors import DataError, DeviceWarning, EctkdError
from napari_ectkd.events import (
    Cancel,
    Cancelled,
    CancelledError,
    Failed,
    Finished,
    Noted,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from napari_ectkd.cli.console import Console
    from napari_ectkd.events import Event
    from napari_ectkd.jobs import JobFolder


def drive(
    make_stream: Callable[[Cancel], Iterable[Event]],
    console: Console,
    job: JobFolder | None = None,
    *,
    was_queued: bool = False,
) -> dict[str, Any]:
    """Drain a stream; return the result that its `Finished` carries.

    Parameters
    ----------
    make_stream
        From a cancel request to the stream.
    console
        Where events are shown.
    job
        Where they are logged too, and where another process may ask to stop.
    was_queued
        Whether it may have asked before the work began.

    Raises
    ------
    EctkdError, CancelledError
        As the stream; the log's last line then says so.
    RuntimeError
        If the stream stops without `Finished`.
    """
    if job is not None:
        job.begin(was_queued=was_queued)
    cancel = job.cancel() if job is not None else Cancel()
    try:
        with _signals_request(cancel), console, _warnings_of_a_gpu(job, console):
            for event in make_stream(cancel):
                _log(job, event)
                if isinstance(event, Finished):
                    return event.result
                console.show(event)
        raise RuntimeError("the work stopped without saying that it finished")
    except CancelledError:
        _log(job, Cancelled())
        raise
    except EctkdError as error:
        _log_failure(job, Failed(message=str(error)))
        raise
    except Exception as error:
        if is_out_of_memory(error):
            said = str(error).strip().split("\n", 1)[0]
            advice = (
                f"out of memory on the device ({said}); take a smaller --batch-size or "
                "--tile, where there is one, or compute on the processor (--device cpu)"
            )
            _log_failure(job, Failed(message=advice))
            raise DataError(advice) from error
        _log_failure(job, Failed(message=str(error), details=traceback.format_exc()))
        raise


def _log(job: JobFolder | None, event: Event) -> None:
    if job is not None:
        job.log(event)


def _log_failure(job: JobFolder | None, failed: Failed) -> None:
    if job is not None:
        job.log_failure(failed)


@contextmanager
def _warnings_of_a_gpu(job: JobFolder | None, console: Console) -> Iterator[None]:
    """Say what is warned of a GPU that lacks an operator, or cannot be used."""
    show = warnings.showwarning

    def say(message: Warning | str, *where: Any, **more: Any) -> None:
        text = _of_a_gpu(message)
        if not text:
            show(message, *where, **more)
            return
        note = Noted(text=text, is_warning=True)
        _log(job, note)
        console.show(note)

    with warnings.catch_warnings():
        warnings.showwarning = say
        yield


def _of_a_gpu(warning: Warning | str) -> str:
    """Return a warning in our words, if it is about a GPU."""
    text = str(warning).strip().split("\n", 1)[0]
    if "fall back to run on the CPU" in text or isinstance(warning, DeviceWarning):
        return text
    _, is_it, reason = text.partition("CUDA initialization: ")
    if not is_it:
        return ""
    reason = re.split(r"\.? \(Triggered|\. | - ", reason, maxsplit=1)[0]
    return f"no GPU can be used ({reason}): `ectkd doctor` says what to do"


@contextmanager
def _signals_request(cancel: Cancel) -> Iterator[None]:
    """Let Ctrl+C, and a scheduler's SIGTERM, ask the work to stop at its next check.

    A second Ctrl+C stops at once. Who deals with SIGTERM already, as submitit does to
    begin anew after a preemption, goes on to.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signal.SIGINT: signal.getsignal(signal.SIGINT)}
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        before[signal.SIGTERM] = signal.SIG_DFL

    def request(number: int, _frame: object) -> None:
        cancel.request()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, request)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
