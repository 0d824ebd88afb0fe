"""Does distillation earn its name? Students taught by teachers of `teachers.py`.

The same labels, test set and augmentation as there. A student learns from an ensemble
asked over the wedge's rotations, with and without 12,000 unlabeled subtomograms, in the
ways of `ectkd distill --objective`; beside it stands the same student trained on hard
labels alone. Rows are files in `benchmarks/results/accuracy/`, made as there; what they
need of `teachers.py` is made on the way.

    python benchmarks/distillation.py --densities DIR --work DIR
    python benchmarks/distillation.py --table
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_ectkd.distillation.config import DistillConfig
from napari_ectkd.distillation.ways import HOW
from rows import Place, ask, distilled, fill_table, summary, write_row
from teachers import ALL, AVERAGED, LABELS, ROWS, SEEDS, train_members

if TYPE_CHECKING:
    from pathlib import Path

STUDENT = "compact"
"""The default, whose ways to learn are compared."""


@dataclass(frozen=True)
class Distilled:
    """A student taught by a row of `teachers.py`.

    Attributes
    ----------
    student
        Name of its network.
    teacher
        Kind of row.
    is_unlabeled
        Whether it also learns what the teacher thinks of the unlabeled ones.
    seeds
        Draws of labels (and of weights).
    settings
        What is said to `ectkd distill`, also where it is the default now.
    is_averaged
        Whether asked over the rotations that keep the missing wedge.
    runs
        Kind of row whose runs these are, where it is another way to ask the same.
    """

    student: str
    teacher: str
    is_unlabeled: bool
    seeds: tuple[int, ...] = (0,)
    settings: dict[str, Any] = field(default_factory=dict)
    is_averaged: bool = False
    runs: str = ""


DEFAULT = {"temperature": 1.0, "epochs": 18}
SURE = DEFAULT | HOW
SHORTER = {"temperature": 2.0, "epochs": 10}
DISTILLED = {
    "compact_unlabeled_cold": Distilled(STUDENT, "ensemble", True, SEEDS, DEFAULT),
    "compact_unlabeled_cold_averaged": Distilled(
        STUDENT,
        "ensemble",
        True,
        SEEDS,
        DEFAULT,
        is_averaged=True,
        runs="compact_unlabeled_cold",
    ),
    "compact_unlabeled": Distilled(STUDENT, "ensemble", True, SEEDS, SHORTER),
    "compact_labeled": Distilled(STUDENT, "ensemble", False, SEEDS, {"temperature": 2}),
    "compact_nano_unlabeled": Distilled(
        "compact_nano", "ensemble", True, SEEDS, DEFAULT
    ),
    "compact_wide_unlabeled": Distilled(
        "compact_wide", "ensemble", True, SEEDS, DEFAULT
    ),
    "compact_from_third_generation": Distilled(
        STUDENT, "third_generation", True, SEEDS, SURE
    ),
    "compact_unlabeled_sure": Distilled(STUDENT, "ensemble", True, SEEDS, SURE),
    "compact_unlabeled_sharpened": Distilled(
        STUDENT, "ensemble", True, settings=DEFAULT | {"sharpen": 3.0}
    ),
    "compact_unlabeled_surest": Distilled(
        STUDENT, "ensemble", True, settings=DEFAULT | {"surest_share": 0.9}
    ),
    "compact_unlabeled_offsets": Distilled(
        STUDENT, "ensemble", True, settings=DEFAULT | {"class_offsets": True}
    ),
    "compact_unlabeled_logits": Distilled(
        STUDENT, "ensemble", True, settings=DEFAULT | {"objective": "logits"}
    ),
    "compact_unlabeled_long": Distilled(
        STUDENT, "ensemble", True, SEEDS, DEFAULT | {"temperature": 2.0}
    ),
    "compact_unlabeled_hot": Distilled(
        STUDENT, "ensemble", True, settings=DEFAULT | {"temperature": 4.0}
    ),
    "compact_unlabeled_soft_alone": Distilled(
        STUDENT, "ensemble", True, settings=DEFAULT | {"soft_weight": 1.0}
    ),
    "compact_unlabeled_one_teacher": Distilled(
        STUDENT, "residual_small", True, settings=DEFAULT
    ),
    "compact_unlabeled_same_view": Distilled(
        STUDENT, "residual_small", True, settings=DEFAULT | {"teacher_sees": "view"}
    ),
    "compact_unlabeled_from_dsrf3d_v2": Distilled(
        STUDENT, "dsrf3d_v2", True, settings=DEFAULT
    ),
}


def names() -> list[str]:
    """Return the names of all rows, those that decide first."""
    return [
        f"{kind}-{labels}-{seed}"
        for kind, row in DISTILLED.items()
        for labels in LABELS
        for seed in row.seeds
    ]


def make(name: str, place: Place) -> None:
    """Make one row."""
    kind, labels, seed = name.rsplit("-", 2)
    row = DISTILLED[kind]
    run, seconds = distill_row(kind, int(labels), int(seed), place)
    facts = {
        "network": row.student,
        "members": 1,
        "is_averaged": row.is_averaged,
        "learned_from": f"{row.teacher}'s soft labels"
        + (", also of unlabeled ones" if row.is_unlabeled else ""),
        "labels": int(labels),
        "seed": int(seed),
        "settings": ALL | row.settings,
        "training_seconds": round(seconds, 1),
    }
    write_row(name, facts, ask(place.test(), [run], is_averaged=row.is_averaged))


def distill_row(kind: str, labels: int, seed: int, place: Place) -> tuple[Path, float]:
    """Distill the run of a row unless it is there; return it and its seconds.

    The seconds are the student's; its teachers are rows of their own.
    """
    row = DISTILLED[kind]
    teachers, _ = train_members(row.teacher, ROWS[row.teacher], labels, seed, place)
    config = DistillConfig(
        model=row.student,
        seed=seed,
        unlabeled=[place.unlabeled()] if row.is_unlabeled else [],
        **(ALL | row.settings),
    )
    said = f"{row.teacher}-{labels}-{seed}{'-unlabeled' * row.is_unlabeled}"
    run = place.run(f"{row.runs or kind}-{labels}-{seed}")
    seconds = distilled(
        run,
        teachers,
        place.labeled(labels, seed),
        config,
        place.soft_labels(said, config),
    )
    return run, seconds


def table(rows: dict[str, dict[str, Any]]) -> None:
    """Print students beside their teachers and DSRF3D-v2, as Markdown."""
    alone = [STUDENT, STUDENT + AVERAGED]
    teachers = ["dsrf3d_v2", "residual_small", "ensemble", "third_generation"]
    kinds = [*teachers, *alone, *DISTILLED]
    print("| row | 20 labels a class | seeds | 100 labels a class | seeds |")
    print("|---|---|---|---|---|")
    for kind in kinds:
        cells = [kind]
        for labels in LABELS:
            found = [
                r for n, r in rows.items() if n.rsplit("-", 1)[0] == f"{kind}-{labels}"
            ]
            values = [row["accuracy"] for row in found]
            cells += [summary(values) if values else "–", str(len(values))]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    fill_table(__doc__, names(), make, table)
