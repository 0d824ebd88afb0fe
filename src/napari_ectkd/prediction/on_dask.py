"""Many tomograms on a Dask cluster: tomograms as tasks, the model sent once a worker.

Tomograms, masks, picks and the folder of results have to be visible to all workers
under the same paths. A worker that dies costs its tomogram's time: Dask gives the task
to another, and since a task writes its files whole or not at all, doing it twice gives
one result.
"""

from __future__ import annotations

import hashlib
import traceback
from concurrent.futures import CancelledError as FutureCancelledError
from pathlib import Path
from typing import TYPE_CHECKING

from distributed import Client, WorkerPlugin, get_worker, wait

from napari_ectkd.errors import ConfigError, EctkdError
from napari_ectkd.events import Cancel, Noted
from napari_ectkd.models.checkpoint import checkpoint_path
from napari_ectkd.prediction.task import TaskFacts, TomogramTask, run_task

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from distributed import Future, Worker

    from napari_ectkd.events import Event
    from napari_ectkd.prediction.batch import Engine

RETRIES = 2
"""Times that a task is tried again, where it did not fail by the user's mistake."""
SECONDS_TO_CONNECT = 30
_CANCEL = ".cancel"


def on_dask(scheduler: str) -> Engine:
    """Return an engine whose tasks are done by the workers of a Dask scheduler.

    Parameters
    ----------
    scheduler
        Its address (`tcp://host:8786`), or the file that it writes it to.
    """

    def engine(
        tasks: Sequence[TomogramTask], *, cancel: Cancel
    ) -> Generator[Event | tuple[TomogramTask, TaskFacts | str], None, None]:
        if not tasks:
            return
        with _connect(scheduler) as client:
            yield from _run(client, scheduler, tasks, cancel)

    return engine


def _connect(scheduler: str) -> Client:
    is_file = "://" not in scheduler and Path(scheduler).suffix == ".json"
    where = {"scheduler_file": scheduler} if is_file else {"address": scheduler}
    if is_file and not Path(scheduler).exists():
        raise ConfigError(
            f"{scheduler}: no such scheduler file; start one with `dask scheduler "
            f"--scheduler-file {scheduler}`"
        )
    try:
        return Client(**where, timeout=SECONDS_TO_CONNECT)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no Dask scheduler answers at {scheduler} ({error}); start one with `dask "
            "scheduler`, and workers with `dask worker ADDRESS`"
        ) from error


def _run(
    client: Client, scheduler: str, tasks: Sequence[TomogramTask], cancel: Cancel
) -> Generator[Event | tuple[TomogramTask, TaskFacts | str], None, None]:
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    yield Noted(
        text=f"{len(workers)} workers at {scheduler}"
        if workers
        else "the scheduler has no workers yet: waiting for some",
        is_warning=not workers,
    )
    most = max((worker["nthreads"] for worker in workers), default=1)
    if most > 1:
        yield Noted(
            text=f"a worker takes {most} tomograms at once, which share its memory and "
            "its cores: start workers with one thread (`dask worker --nthreads 1`, "
            "cores=1 in dask-jobqueue) and say by OMP_NUM_THREADS how many cores a "
            "tomogram gets",
            is_warning=True,
        )
    content = checkpoint_path(tasks[0].model).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    client.register_plugin(_Model(content, digest))
    stop = tasks[0].star.parent / _CANCEL
    stop.unlink(missing_ok=True)
    waiting: dict[Future, TomogramTask] = {
        client.submit(
            _do, task, digest, stop, key=f"ectkd-{task.key()}", retries=RETRIES
        ): task
        for task in tasks
    }
    try:
        while waiting:
            if cancel.is_requested:
                stop.touch()  # for the tasks that are at work
                client.cancel(list(waiting))
                cancel.check()
            try:
                done = wait(list(waiting), timeout=1, return_when="FIRST_COMPLETED")
            except TimeoutError:
                continue
            for future in done.done:
                yield waiting.pop(future), _outcome(future)
    finally:
        for future in waiting:
            future.release()


def _outcome(future: Future) -> TaskFacts | str:
    try:
        facts: TaskFacts | str = future.result()
    except FutureCancelledError:
        return "cancelled on the cluster"
    except Exception as error:  # noqa: BLE001  noted down, the others go on
        return "".join(traceback.format_exception(error))
    return facts


def _do(task: TomogramTask, digest: str, stop: Path) -> TaskFacts | str:
    """Do a task on a worker; return what came of it, or the user's mistake."""
    model = _model_file(Path(get_worker().local_directory), digest)
    stream = run_task(task.model_copy(update={"model": model}), cancel=Cancel(stop))
    try:
        while True:
            next(stream)
    except StopIteration as end:
        facts: TaskFacts = end.value
        return facts
    except EctkdError as error:
        return str(error)


class _Model(WorkerPlugin):
    """Writes the model's checkpoint to each worker's own disk, also of later workers.

    Parameters
    ----------
    content
        The bytes of the checkpoint file.
    digest
        Its name.
    """

    def __init__(self, content: bytes, digest: str) -> None:
        self.name = f"ectkd-model-{digest}"
        self._content = content
        self._digest = digest

    def setup(self, worker: Worker) -> None:
        """Write the file, unless it is there."""
        path = _model_file(Path(worker.local_directory), self._digest)
        if not path.exists():
            path.write_bytes(self._content)


def _model_file(folder: Path, digest: str) -> Path:
    return folder / f"ectkd-{digest}.safetensors"
