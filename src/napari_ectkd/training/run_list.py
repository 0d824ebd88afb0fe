"""The runs in a folder: what they are, how they stand, what can be done with them."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_ectkd.errors import ConfigError, EctkdError, FileMissingError
from napari_ectkd.events import EpochEnd
from napari_ectkd.io.atomic import atomic_path, cannot_write
from napari_ectkd.models.checkpoint import CheckpointInfo, checkpoint_path, read_info
from napari_ectkd.runs import Run

if TYPE_CHECKING:
    from pathlib import Path

    from napari_ectkd.jobs import State


@dataclass(frozen=True)
class FoundRun:
    """A run folder and what can be said of it without loading the model.

    Attributes
    ----------
    kind
        `train`, `distill`, or nothing where the folder does not say.
    info
        None before the first epoch is over.
    """

    path: Path
    kind: str
    state: State
    info: CheckpointInfo | None

    @property
    def val_accuracy(self) -> float | None:
        """Share of the validation part that is right: of members, together."""
        if self.info is None:
            return None
        if Run(self.path).members():
            try:
                card = json.loads(
                    Run(self.path).card_path.with_suffix(".json").read_text()
                )
                return float(card["ensemble"]["val_accuracy"])
            except (OSError, ValueError, KeyError):
                pass  # not finished, or never validated
        return self.info.metrics.get("val_accuracy")

    @property
    def title(self) -> str:
        """One line for people."""
        if self.info is None:
            return f"{self.path.name} ({self.state})"
        accuracy = self.val_accuracy
        members = len(Run(self.path).members())
        of = f"{members} × " if members else ""
        parts = [f"{self.path.name}: {of}{self.info.model}"]
        parts += [] if accuracy is None else [f"{100 * accuracy:.0f} %"]
        parts += [] if self.state == "finished" else [self.state]
        return ", ".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """Return the run as JSON values, as `ectkd runs --json` prints it."""
        last = last_epoch(Run(self.path))
        return {
            "name": self.path.name,
            "path": str(self.path),
            "kind": self.kind,
            "state": self.state,
            "model": self.info.model if self.info else None,
            "classes": self.info.classes if self.info else [],
            "val_accuracy": self.val_accuracy,
            "epoch": last.epoch if last else 0,
            "epochs": last.epochs if last else None,
            "can_resume": can_resume(self),
        }


def find_run(path: Path) -> FoundRun | None:
    """Return what can be said of a folder or checkpoint file; None if it is no run."""
    try:
        info = read_info(path)
    except EctkdError:
        info = None
    try:
        kind = str(Run(path).config().get("kind", ""))
    except EctkdError:
        kind = ""
    if info is None and not kind:
        return None
    state = Run(path).state() if kind else "finished"
    return FoundRun(path, kind, state, info)


def find_runs(folder: Path | None) -> list[FoundRun]:
    """Return the runs in a folder, the newest first."""
    if folder is None or not folder.is_dir():
        return []
    paths = [path for path in folder.iterdir() if path.is_dir()]
    paths.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    return [run for path in paths if (run := find_run(path)) is not None]


def can_resume(run: FoundRun) -> bool:
    """Return whether a run stopped and saved what is needed to go on."""
    return run.state not in ("running", "queued") and Run(run.path).can_resume()


def last_epoch(run: Run) -> EpochEnd | None:
    """Return the last epoch that a run logged."""
    last = None
    for event in run.events():
        if isinstance(event, EpochEnd):
            last = event
    return last


def delete_run(path: Path) -> None:
    """Remove a run's folder with all that is in it.

    Raises
    ------
    ConfigError
        If it is at work, or waits for that.
    FileMissingError
        If the folder is no run: then nothing of it is removed.
    WriteError
        If it cannot be removed.
    """
    Run(path).config()  # only what says that it is a run
    if Run(path).is_running():
        raise ConfigError(f"{path}: the run is at work; cancel it first")
    if Run(path).state() == "queued":
        raise ConfigError(f"{path}: the run waits for a scheduler; cancel it first")
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise cannot_write(path, error) from error


def export_model(path: Path, out: Path) -> list[Path]:
    """Write a run's model as one file, its card beside it; return what was written.

    Parameters
    ----------
    path
        Run folder, or checkpoint.
    out
        A `.safetensors` file. The weights' header holds all that is needed to use it.

    Raises
    ------
    FileMissingError
        If the run has no model yet.
    ConfigError
        If the name ends otherwise, or would overwrite the run's own.
    WriteError
        If it cannot be written.
    """
    source = checkpoint_path(path)
    read_info(source)
    if out.suffix != ".safetensors":
        raise ConfigError(f"{out}: a model file ends in .safetensors")
    if out.exists() and out.samefile(source):
        raise ConfigError(f"{out} is the run's own model; name another file")
    written = [out]
    with atomic_path(out) as temporary:
        shutil.copyfile(source, temporary)
    card = Run(path).card_path
    if path.is_dir() and card.exists():
        written.append(out.with_suffix(".md"))
        with atomic_path(written[-1]) as temporary:
            shutil.copyfile(card, temporary)
    return written


def check_folder(folder: Path) -> None:
    """Raise `FileMissingError` if there is no such folder."""
    if not folder.is_dir():
        raise FileMissingError(f"{folder}: no such folder; name one that holds runs")
