"""The students of a search: accuracy against speed, and the one that is used."""

from __future__ import annotations

import csv
import json
import shutil
from typing import TYPE_CHECKING, Any

from napari_ectkd.errors import ConfigError, FileMissingError, FormatError
from napari_ectkd.io.atomic import atomic_path
from napari_ectkd.runs import Run
from napari_ectkd.training.card import write_card

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

WITHIN = 0.01
"""Accuracy that may be given up for speed: the measurement is seldom more exact."""
_COLUMNS = (
    *("trial", "model", "val_accuracy", "calibration_error", "ms_per_subtomogram"),
    *("speed", "parameters", "macs", "size_bytes", "is_on_front", "is_used"),
    *("temperature", "soft_weight", "learning_rate"),
)


def mark_front(rows: Sequence[dict[str, Any]]) -> None:
    """Set `is_on_front` of each row: nothing is both faster and as accurate.

    Of equals the first is on the front.

    Parameters
    ----------
    rows
        With `val_accuracy` and `ms_per_subtomogram`.
    """
    for i, row in enumerate(rows):
        row["is_on_front"] = not any(
            _is_better(other, row) or (_is_equal(other, row) and j < i)
            for j, other in enumerate(rows)
        )


def recommended(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the fastest within a point of the most accurate.

    Parameters
    ----------
    rows
        At least one, with `is_on_front`.
    """
    best = max(row["val_accuracy"] for row in rows)
    right = [
        row
        for row in rows
        if row["is_on_front"] and row["val_accuracy"] >= best - WITHIN - 1e-9
    ]
    return min(right, key=lambda row: float(row["ms_per_subtomogram"]))


def trial_run(run: Run, number: int) -> Run:
    """Return the run of one trial of a search, from 1."""
    return Run(run.path / f"trial-{number:02d}")


def trial_runs(run: Run) -> list[Run]:
    """Return the runs of a search's trials in order; of anything else, none."""
    return [Run(path) for path in sorted(run.path.glob("trial-*")) if path.is_dir()]


def write_front(run: Run, rows: Sequence[dict[str, Any]]) -> None:
    """Write `front.json` and `front.csv` into a search's folder.

    Raises
    ------
    WriteError
        If a file cannot be written.
    """
    with atomic_path(front_path(run)) as temporary:
        temporary.write_text(json.dumps(list(rows), indent=1) + "\n")
    with (
        atomic_path(front_path(run).with_suffix(".csv")) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def read_front(run: Run) -> list[dict[str, Any]]:
    """Return the students of a search.

    Raises
    ------
    FileMissingError, FormatError
        If the folder is no search that came so far, or the file is broken.
    """
    try:
        rows: list[dict[str, Any]] = json.loads(front_path(run).read_text())
    except OSError as error:
        raise FileMissingError(f"{run.path}: no search with students in it") from error
    except ValueError as error:
        raise FormatError(f"{front_path(run)}: broken JSON ({error})") from error
    return rows


def use_trial(run: Run, number: int) -> list[dict[str, Any]]:
    """Make one student of a search the search's model; return the front.

    Raises
    ------
    ConfigError
        If there is no such trial, or it came to no end.
    """
    rows = read_front(run)
    if number not in [row["trial"] for row in rows]:
        raise ConfigError(f"{run.path}: no student from trial {number}")
    trial = trial_run(run, number)
    card = trial.card_path
    for source in (trial.best_path, trial.validated_path):
        if source.exists():
            with atomic_path(run.path / source.name) as temporary:
                shutil.copyfile(source, temporary)
        else:
            (run.path / source.name).unlink(missing_ok=True)  # of another trial
    if card.exists():
        facts = json.loads(card.with_suffix(".json").read_text())
        write_card(run, facts | {"name": run.path.name})
    for row in rows:
        row["is_used"] = row["trial"] == number
    write_front(run, rows)
    return rows


def with_times_of(row: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """Return a trial's result with the times that the front was drawn from.

    A trial measured student and teacher when it ended; at the end of the search all
    students were measured in turns, which is what can be compared.
    """
    ms = row["ms_per_subtomogram"]
    asked = sum(
        entry["ms_per_subtomogram"]
        for entry in result["comparison"]
        if entry["role"] == "teacher"
    )
    # What several teachers took together is what the speed is told against.
    factor = ms * row["speed"] / asked
    comparison = [
        entry
        | {
            "ms_per_subtomogram": ms
            if entry["role"] == "student"
            else entry["ms_per_subtomogram"] * factor
        }
        for entry in result["comparison"]
    ]
    return result | {"comparison": comparison}


def front_path(run: Run) -> Path:
    """Return where a search keeps its students' figures."""
    return run.path / "front.json"


def _is_better(one: dict[str, Any], other: dict[str, Any]) -> bool:
    a = (one["val_accuracy"], -one["ms_per_subtomogram"])
    b = (other["val_accuracy"], -other["ms_per_subtomogram"])
    return a != b and a[0] >= b[0] and a[1] >= b[1]


def _is_equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    keys = ("val_accuracy", "ms_per_subtomogram")
    return all(one[key] == other[key] for key in keys)
