"""A run carried out by its own settings: here, or as one of several processes.

`python -m napari_ectkd.cli.worker RUN` is what torchrun starts on each device, and what
a cluster's job does: the settings are in the run's folder.
"""

from __future__ import annotations

import atexit
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ectkd.cli.console import Console
from napari_ectkd.cli.drive import drive
from napari_ectkd.cli.exit_codes import exit_code
from napari_ectkd.cli.kept_settings import kept_part
from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.distillation.config import (
    DistillConfig,
    GenerationConfig,
    SearchConfig,
)
from napari_ectkd.errors import ConfigError, EctkdError
from napari_ectkd.events import Cancel, CancelledError, Failed
from napari_ectkd.runs import Run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_ectkd.events import Event

_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")
RESUME = "--resume"
QUEUED = "--queued"


def carry_out(
    run: Run, console: Console, *, is_resumed: bool, was_queued: bool = False
) -> dict[str, Any]:
    """Do what a run's settings say, in this process; return the result.

    The first of several processes shows and logs what happens; the others are silent.
    One that was queued may have been cancelled before it began.

    Raises
    ------
    EctkdError, CancelledError
        As the stage.
    """
    from napari_ectkd.training.workers import leave_workers, rank_from_environment

    run.config()  # a folder that was deleted meanwhile is not to come back
    result: dict[str, Any] = {}
    if rank_from_environment() == 0:
        result = drive(
            lambda c: stream_of(run, is_resumed, c),
            console,
            run,
            was_queued=was_queued,
        )
    else:
        _take_part(run, is_resumed)
    leave_workers()
    return result


def _take_part(run: Run, is_resumed: bool) -> None:
    """Do a process's share in silence, but for what goes wrong in it alone."""
    try:
        for _event in stream_of(run, is_resumed, Cancel(run.cancel_path)):
            continue
    except CancelledError:
        raise
    except EctkdError as error:
        run.log_failure(Failed(message=str(error)))
        raise
    except Exception as error:
        # Who lost the others knows of nothing that went wrong.
        if not any(text in str(error) for text in _LOST):
            run.log_failure(Failed(message=str(error), details=traceback.format_exc()))
        raise


def stream_of(run: Run, is_resumed: bool, cancel: Cancel) -> Iterator[Event]:
    """Return the events of what a run's settings say.

    Raises
    ------
    ConfigError
        If these are no settings of a run.
    """
    kept = run.config()
    data = kept_part(run, DataConfig, kept, "data")
    if kept.get("kind") == "train":
        from napari_ectkd.distillation.generations import train

        learning = kept_part(run, GenerationConfig, kept, "config")
        return train(data, learning, run, cancel=cancel, is_resumed=is_resumed)
    if kept.get("kind") == "distill":
        from napari_ectkd.distillation.distill import distill

        distilling = kept_part(run, DistillConfig, kept, "config")
        teachers = [Path(path) for path in kept.get("teachers", [])]
        if "search" in kept:
            from napari_ectkd.distillation.search import search

            how = kept_part(run, SearchConfig, kept, "search")
            return search(teachers, data, distilling, how, run, cancel=cancel)
        return distill(
            teachers, data, distilling, run, cancel=cancel, is_resumed=is_resumed
        )
    raise ConfigError(f"{run.path}: no run that ectkd can carry out")


def main(arguments: Sequence[str]) -> int:
    """Carry out the run that the arguments name; return an exit code.

    One of several processes that fails ends at once: what it would wait for at its end
    are the others, which wait for it.
    """
    path, *rest = arguments

    def work() -> None:
        carry_out(
            Run(path), Console(), is_resumed=RESUME in rest, was_queued=QUEUED in rest
        )

    if os.environ.get("WORLD_SIZE", "1") == "1":
        return exit_code(work)
    try:
        code = exit_code(work)
    except Exception:  # noqa: BLE001  it is shown, and nothing comes after it
        traceback.print_exc()
        code = 1
    if code:
        end_at_once(code)
    # Threads of torch's that talk to the others now and then end the process badly
    # while Python takes itself apart.
    atexit.register(end_at_once, 0)
    return code


def end_at_once(code: int) -> None:
    """End this process, with no regard to what its threads still do."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
