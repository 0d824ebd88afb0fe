"""Many tomograms: each by itself, what is done noted down, the rest done."""

from __future__ import annotations

import time
import traceback
from typing import TYPE_CHECKING, Any, Protocol

from napari_ectkd.errors import ConfigError, EctkdError
from napari_ectkd.events import CancelledError, Noted, Progress, Saved
from napari_ectkd.io.atomic import make_folder
from napari_ectkd.io.formats import tomogram_name
from napari_ectkd.io.picks import join_picks
from napari_ectkd.io.star import read_picks, write_picks
from napari_ectkd.models.checkpoint import read_info
from napari_ectkd.prediction.config import SweepConfig
from napari_ectkd.prediction.manifest import (
    JOINT,
    MANIFEST,
    SUMMARY,
    Manifest,
    ManifestEntry,
    read_manifest,
    write_summary,
)
from napari_ectkd.prediction.task import TaskFacts, TomogramTask, run_task
from napari_ectkd.prediction.unfinished import weights_digest

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.io.tomogram_list import TomogramEntry
    from napari_ectkd.prediction.config import ClassifyConfig

_LOCK = ".at-work.lock"


class Engine(Protocol):
    """Does tasks, here or elsewhere, in any order."""

    def __call__(
        self, tasks: Sequence[TomogramTask], *, cancel: Cancel
    ) -> Generator[Event | tuple[TomogramTask, TaskFacts | str], None, None]:
        """Yield events, and for each task what came of it or what went wrong."""
        ...


def make_tasks(
    entries: Sequence[TomogramEntry],
    model: Path,
    config: SweepConfig | ClassifyConfig,
    out: Path,
    *,
    picks: Sequence[Path] = (),
    mask: Path | None = None,
    scores: Path | None = None,
) -> list[TomogramTask]:
    """Return one task for each tomogram.

    Parameters
    ----------
    entries
        The tomograms.
    model
        Run folder or checkpoint file.
    config
        How to sweep, or how to classify.
    out
        Folder of the results.
    picks
        For classifying: one STAR file of all tomograms, or one for each that is named
        as its tomogram.
    mask
        A volume for all tomograms, or a folder with one for each that is named so.
    scores
        Folder to write the scores of each tomogram into.

    Raises
    ------
    ConfigError
        If two tomograms have one name, or picks or a mask are missing.
    """
    by_name: dict[str, TomogramEntry] = {}
    for entry in entries:
        name = tomogram_name(entry.path)
        if name in by_name:
            raise ConfigError(
                f"two tomograms are called {name!r}: {by_name[name].path} and "
                f"{entry.path}; give them different names, since picks go by the name"
            )
        by_name[name] = entry
    if not by_name:
        raise ConfigError("no tomograms to work on; name files, folders or a pattern")
    return [
        TomogramTask(
            name=name,
            entry=entry.model_copy(update={"path": entry.path.resolve()}),
            model=model.resolve(),
            config=config,
            star=(out / f"{name}.star").resolve(),
            picks=None if isinstance(config, SweepConfig) else _of(name, picks),
            mask=None if mask is None else _of(name, _inside(mask)),
            scores=None if scores is None else (scores / f"{name}.zarr").resolve(),
        )
        for name, entry in by_name.items()
    ]


def run_tasks(
    tasks: Sequence[TomogramTask], out: Path, engine: Engine, *, cancel: Cancel
) -> Generator[Event, None, dict[str, Any]]:
    """Yield what happens while tomograms are worked on; return what came of all.

    What goes wrong with one does not stop the others. What an earlier start with the
    same model and settings has done is kept: of these tomograms it is not done again,
    and of others in the folder it stays in the summary and the joint picks.

    Parameters
    ----------
    tasks
        From `make_tasks`.
    out
        Folder of the results.
    engine
        Who does them.
    cancel
        Looked at within each.

    Raises
    ------
    EctkdError
        If there is no such model, or the folder cannot be written. Raised by the call
        itself.
    ConfigError
        From the first event on, if another process works into the folder.
    """
    read_info(tasks[0].model)
    make_folder(out)
    return _alone_in(out, _run_tasks(tasks, out, engine, cancel))


def _alone_in(
    out: Path, stream: Generator[Event, None, dict[str, Any]]
) -> Generator[Event, None, dict[str, Any]]:
    """Yield from a stream while no other process may work into a folder."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(out / _LOCK, blocking=False):
            return (yield from stream)
    except Timeout as error:
        raise ConfigError(
            f"{out}: another process is at work in this folder; wait until it is done, "
            "or name another (--out)"
        ) from error


def in_this_process(
    tasks: Sequence[TomogramTask], *, cancel: Cancel
) -> Generator[Event | tuple[TomogramTask, TaskFacts | str], None, None]:
    """Do one task after the other, each with all threads."""
    for task in tasks:
        # Before its file is opened, which may take a while: this one is at work now.
        yield Progress(stage="open", done=0, total=1, of=task.name)
        try:
            facts: TaskFacts | str = yield from _named(task, cancel)
        except CancelledError:
            raise
        except EctkdError as error:
            facts = str(error)
        except Exception:  # noqa: BLE001  noted down with its traceback, others go on
            facts = traceback.format_exc()
        yield task, facts


def _named(task: TomogramTask, cancel: Cancel) -> Generator[Event, None, TaskFacts]:
    """Do a task, and say of its progress whose it is."""
    stream = run_task(task, cancel=cancel)
    while True:
        try:
            event = next(stream)
        except StopIteration as end:
            facts: TaskFacts = end.value
            return facts
        is_progress = isinstance(event, Progress)
        yield event.model_copy(update={"of": task.name}) if is_progress else event


def _run_tasks(
    tasks: Sequence[TomogramTask],
    out: Path,
    engine: Engine,
    cancel: Cancel,
) -> Generator[Event, None, dict[str, Any]]:
    first = tasks[0]
    is_sweep = isinstance(first.config, SweepConfig)
    earlier = read_manifest(out)
    before = {e.name: e for e in earlier.tomograms} if earlier else {}
    entries = [_entry(task, before.get(task.name), out) for task in tasks]
    manifest = Manifest(
        kind="sweep" if is_sweep else "classify",
        model=first.model,
        weights=weights_digest(first.model),
        settings=first.settings(),
        tomograms=entries,
    )
    others: list[ManifestEntry] = []
    if earlier is not None and manifest.is_same_work(earlier):
        others = _done_besides(tasks, earlier, out)
        manifest = manifest.model_copy(update={"tomograms": [*others, *entries]})
    manifest.write(out)
    states = {e.name: e for e in entries}
    to_do = [task for task in tasks if states[task.name].state == "waiting"]
    n_kept = sum(e.state == "done" for e in entries)
    if n_kept:
        yield Noted(text=f"{n_kept} of {len(tasks)} tomograms were done before")
    if others:
        yield Noted(
            text=f"{len(others)} other tomograms that were done into this folder stay "
            "in the summary and the joint picks"
        )
    for entry in entries:
        if entry.state == "failed":
            yield _failure(entry)
    started = time.monotonic()
    done = len(tasks) - len(to_do)
    for what in engine(to_do, cancel=cancel):
        if not isinstance(what, tuple):
            yield what
            continue
        task, facts = what
        entry = _outcome(states[task.name], facts)
        manifest = manifest.with_entry(entry)
        manifest.write(out)
        if entry.state == "failed":
            yield _failure(entry)
        done += 1
        share = (len(tasks) - done) / (done - len(tasks) + len(to_do))
        yield Progress(
            stage="tomograms",
            done=done,
            total=len(tasks),
            seconds_left=(time.monotonic() - started) * share,
        )
    write_summary(out / SUMMARY, manifest.tomograms)
    yield Saved(what="summary", path=str(out / SUMMARY))
    yield from _write_joint(manifest, out)
    return _result(manifest, n_kept + len(others), out)


def _done_besides(
    tasks: Sequence[TomogramTask], earlier: Manifest, out: Path
) -> list[ManifestEntry]:
    """Return the entries of other tomograms whose picks are there."""
    names = {task.name for task in tasks}
    return [
        entry
        for entry in earlier.tomograms
        if entry.name not in names
        and entry.state == "done"
        and (out / entry.star).exists()
    ]


def _entry(
    task: TomogramTask, before: ManifestEntry | None, out: Path
) -> ManifestEntry:
    """Return a task's entry: done if an earlier start did the same work."""
    fresh = ManifestEntry(
        name=task.name,
        path=task.entry.path,
        star=task.star.name,
        scores=task.scores,
    )
    try:
        key = task.key()
    except (EctkdError, OSError) as error:
        return fresh.model_copy(update={"state": "failed", "error": str(error)})
    if (
        before is not None
        and before.state == "done"
        and before.key == key
        and (out / before.star).exists()
        # Scores that lie there without this work's name may be of an earlier model.
        and (task.scores in (None, before.scores))
        and (task.scores is None or task.scores.exists())
    ):
        return before
    return fresh.model_copy(update={"key": key})


def _outcome(entry: ManifestEntry, facts: TaskFacts | str) -> ManifestEntry:
    if isinstance(facts, str):
        return entry.model_copy(update={"state": "failed", "error": facts})
    return entry.model_copy(update={"state": "done", **facts.model_dump()})


def _failure(entry: ManifestEntry) -> Noted:
    return Noted(text=f"{entry.name} failed: {entry.error}", is_warning=True)


def _write_joint(manifest: Manifest, out: Path) -> Generator[Event, None, None]:
    done = [entry for entry in manifest.tomograms if entry.state == "done"]
    if not done:
        return
    parts = [read_picks(out / entry.star) for entry in done]
    sizes = {entry.name: float(entry.voxel_size or 0) for entry in done}
    write_picks(out / JOINT, join_picks(parts), sizes)
    yield Saved(what="joint picks", path=str(out / JOINT))


def _result(manifest: Manifest, n_kept: int, out: Path) -> dict[str, Any]:
    entries = manifest.tomograms
    counts: dict[str, int] = {}
    for entry in entries:
        for name, n in entry.counts.items():
            counts[name] = counts.get(name, 0) + n
    n_done = sum(entry.state == "done" for entry in entries)
    return {
        "n": sum(entry.n or 0 for entry in entries),
        "counts": dict(sorted(counts.items())),
        "done": n_done - n_kept,
        "kept": n_kept,
        "failed": sum(entry.state == "failed" for entry in entries),
        "out": str(out),
        "joint": str(out / JOINT) if n_done else None,
        "summary": str(out / SUMMARY),
        "manifest": str(out / MANIFEST),
        "tomograms": [entry.model_dump(mode="json") for entry in entries],
    }


def _inside(path: Path) -> list[Path]:
    return sorted(path.iterdir()) if path.is_dir() else [path]


def _of(name: str, files: Sequence[Path]) -> Path:
    """Return the file for a tomogram: the only one, or the one named so."""
    if len(files) == 1:
        return files[0].resolve()
    for file in files:
        if name in (file.stem, tomogram_name(file)):
            return file.resolve()
    raise ConfigError(
        f"{len(files)} files for all tomograms, but none of them is named {name}; name "
        "each file as its tomogram"
    )
