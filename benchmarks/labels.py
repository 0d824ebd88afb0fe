"""Labels as they come: long-tailed or partly wrong, and what helps then.

The compact student, the classes and the test set of `teachers.py`, whose classes are
equally frequent: accuracy there is the mean of the classes' recalls. The labels are
drawn from its unlabeled subtomograms, whose truth is known here.

- tail: 200 labels of the most frequent class and 2 of the rarest, the others between in
  equal ratios; which class is how frequent is drawn.
- wrong: 100 labels a class, of which 15 in 100 name another, drawn evenly; "without
  suspects" leaves those out that `ectkd suspects` lists.

Rows are files in `benchmarks/results/labels/`, made as in `teachers.py`.

    python benchmarks/labels.py --densities DIR --work DIR
    python benchmarks/labels.py --table
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.events import Cancel
from napari_ectkd.io.stacks import StackWriter, open_stacks, per_stack
from napari_ectkd.training.config import SuspectConfig, TrainConfig
from napari_ectkd.training.suspects import suspect_labels
from rows import (
    RESULTS,
    Place,
    ask,
    fill_table,
    returned,
    row_path,
    save_row,
    summary,
    trained,
)
from teachers import ALL, SEEDS

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDER = RESULTS.parent / "labels"
STUDENT = "compact"
MOST, FEWEST, EACH = 200, 2, 100
WRONG = 0.15
N_RARE = 3
"""Classes whose recall is shown apart: of 9 labels and fewer."""


@dataclass(frozen=True)
class Case:
    """Labels, and how to learn from them.

    Attributes
    ----------
    labels
        `tail` or `wrong`.
    settings
        What differs from the default settings of `ectkd train`.
    is_checked
        Whether suspect labels are left out.
    """

    labels: str
    settings: dict[str, Any] = field(default_factory=dict)
    is_checked: bool = False


CASES = {
    "tail_balance_0": Case("tail", {"balance": 0.0}),
    "tail_balance_0.5": Case("tail", {"balance": 0.5}),
    "tail_balance_1": Case("tail", {"balance": 1.0}),
    "wrong_smoothing_0": Case("wrong", {"label_smoothing": 0.0}),
    "wrong_smoothing_0.05": Case("wrong", {"label_smoothing": 0.05}),
    "wrong_smoothing_0.2": Case("wrong", {"label_smoothing": 0.2}),
    "wrong_without_suspects": Case("wrong", is_checked=True),
}


def names() -> list[str]:
    """Return the names of all rows."""
    return [f"{case}-{seed}" for seed in SEEDS for case in CASES]


def make(name: str, place: Place) -> None:
    """Make one row."""
    kind, number = name.rsplit("-", 1)
    case, seed = CASES[kind], int(number)
    data = labeled(place, case.labels, seed)
    facts: dict[str, Any] = {}
    if case.is_checked:
        listed = suspects(data, seed)
        facts = judged(data, listed)
        data = without(data, listed)
    config = TrainConfig(model=STUDENT, seed=seed, **ALL, **case.settings)
    run = place.run(f"labels-{name}")
    seconds = trained(run, data, config)
    facts |= {
        "network": STUDENT,
        "learned_from": case.labels,
        "counts": counts(data),
        "seed": seed,
        "settings": ALL | case.settings,
        "training_seconds": round(seconds, 1),
    }
    save_row(row_path(name, FOLDER), facts, ask(place.test(), [run], is_averaged=False))


def labeled(place: Place, labels: str, seed: int) -> DataConfig:
    """Return a draw of labels, long-tailed or partly wrong."""
    folder = place.work / "data" / f"{labels}-{seed}"
    _, _, known = open_stacks(place.unlabeled())
    truth = np.array(known, dtype=object)
    random = np.random.default_rng(seed)
    classes = random.permutation(sorted(set(known)))
    ratio = (FEWEST / MOST) ** (1 / (len(classes) - 1))
    chosen = [
        random.choice(
            np.flatnonzero(truth == name),
            round(MOST * ratio**rank) if labels == "tail" else EACH,
            replace=False,
        )
        for rank, name in enumerate(classes)
    ]
    index = np.concatenate(chosen)
    said = truth[index]
    if labels == "wrong":
        for row in random.choice(len(said), round(WRONG * len(said)), replace=False):
            said[row] = random.choice([name for name in classes if name != said[row]])
    return written(place.unlabeled(), folder, index, said, {"truth": truth[index]})


def written(
    source: Path,
    folder: Path,
    index: np.ndarray,
    labels: np.ndarray,
    columns: dict[str, np.ndarray],
) -> DataConfig:
    """Write some subtomograms of a data set, by these labels, as another."""
    info, volumes, _ = open_stacks(source)
    writer = StackWriter(folder, info)
    n = per_stack(info.box)
    if not writer.is_finished:
        firsts = range(0, len(index), n)
        for number, first in enumerate(firsts):
            part = slice(first, first + n)
            voxels = np.stack([volumes[i] for i in index[part]])
            shown = {name: column[part] for name, column in columns.items()}
            writer.write(number, voxels, list(labels[part]), shown)
        writer.finish(len(firsts))
    return DataConfig(data=[folder])


def suspects(data: DataConfig, seed: int) -> list[int]:
    """Return which labels `ectkd suspects` lists."""
    with tempfile.TemporaryDirectory() as folder:
        found = returned(
            suspect_labels(
                data,
                SuspectConfig(seed=seed),
                Path(folder) / "suspects.csv",
                cancel=Cancel(),
            )
        )
    return [row["row"] - 1 for row in found["suspects"]]


def judged(data: DataConfig, listed: Sequence[int]) -> dict[str, Any]:
    """Return how many labels are wrong, listed, and both."""
    is_wrong = np.array(_column(data, "truth")) != np.array(_column(data, "ectkdLabel"))
    return {
        "n_wrong": int(is_wrong.sum()),
        "n_listed": len(listed),
        "n_wrong_listed": int(is_wrong[list(listed)].sum()),
    }


def without(data: DataConfig, listed: Sequence[int]) -> DataConfig:
    """Return the labels without those that are listed."""
    folder = data.data[0]
    _, _, labels = open_stacks(folder)
    kept = np.setdiff1d(np.arange(len(labels)), listed)
    said = np.array(labels, dtype=object)[kept]
    return written(folder, folder.with_name(f"{folder.name}-checked"), kept, said, {})


def counts(data: DataConfig) -> dict[str, int]:
    """Return the labels of each class."""
    _, _, labels = open_stacks(data.data[0])
    found, n = np.unique(labels, return_counts=True)
    return dict(zip(found.tolist(), n.tolist(), strict=True))


def table(rows: dict[str, dict[str, Any]]) -> None:
    """Print rows, as Markdown."""
    print("| labels | seeds | accuracy | recall of the three rarest |")
    print("|---|---|---|---|")
    for kind, case in CASES.items():
        same = [row for name, row in rows.items() if name.rsplit("-", 1)[0] == kind]
        if not same:
            continue
        accuracy = summary([row["accuracy"] for row in same])
        rare = summary([rare_recall(row) for row in same])
        shown = rare if case.labels == "tail" else "–"
        print(f"| {kind.replace('_', ' ')} | {len(same)} | {accuracy} | {shown} |")
    for row in rows.values():
        if "n_listed" in row:
            print(
                f"\nDraw {row['seed']}: {row['n_listed']} listed, of them "
                f"{row['n_wrong_listed']} of the {row['n_wrong']} wrong ones."
            )


def rare_recall(row: dict[str, Any]) -> float:
    """Return the mean recall of the classes with the fewest labels."""
    rarest = sorted(row["counts"], key=row["counts"].__getitem__)[:N_RARE]
    return float(np.mean([row["recall"][name] for name in rarest]))


def _column(data: DataConfig, name: str) -> list[str]:
    import starfile

    table = starfile.read(
        data.data[0] / "subtomograms.star", parse_as_string=["truth", "ectkdLabel"]
    )
    return list(table[name])


if __name__ == "__main__":
    fill_table(__doc__, names(), make, table, FOLDER)
