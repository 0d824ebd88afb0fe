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
from typing import Any

from napari_ectkd.distillation.config import DistillConfig
from rows import Place, ask, distilled, fill_table, read_rows, summary, write_row
from teachers import ALL, LABELS, ROWS, SEEDS, train_run

STUDENT = "compact"


@dataclass(frozen=True)
class Distilled:
    """A student taught by a row of `teachers.py`.

    Attributes
    ----------
    teacher
        Kind of row.
    is_unlabeled
        Whether it also learns what the teacher thinks of the unlabeled ones.
    seeds
        Draws of labels (and of weights).
    settings
        What differs from the default settings of `ectkd distill`.
    """

    teacher: str
    is_unlabeled: bool
    seeds: tuple[int, ...] = (0,)
    settings: dict[str, Any] = field(default_factory=dict)


DISTILLED = {
    "unlabeled": Distilled("ensemble", is_unlabeled=True, seeds=SEEDS),
    "labeled": Distilled("ensemble", is_unlabeled=False, seeds=SEEDS),
    "unlabeled_one_teacher": Distilled("residual_small", is_unlabeled=True),
    "unlabeled_from_dsrf3d_v2": Distilled("dsrf3d_v2", is_unlabeled=True),
    "unlabeled_logits": Distilled(
        "ensemble", is_unlabeled=True, settings={"objective": "logits"}
    ),
    "unlabeled_decoupled": Distilled(
        "ensemble", is_unlabeled=True, settings={"objective": "decoupled"}
    ),
    "unlabeled_same_view": Distilled(
        "residual_small", is_unlabeled=True, settings={"teacher_sees": "view"}
    ),
    "unlabeled_long": Distilled("ensemble", is_unlabeled=True, settings={"epochs": 18}),
    "unlabeled_hot": Distilled(
        "ensemble", is_unlabeled=True, settings={"temperature": 4.0}
    ),
    "unlabeled_soft_alone": Distilled(
        "ensemble", is_unlabeled=True, settings={"soft_weight": 1.0}
    ),
}


def names() -> list[str]:
    """Return the names of all rows, those that decide first."""
    return [
        f"{STUDENT}_{kind}-{labels}-{seed}"
        for kind, row in DISTILLED.items()
        for labels in LABELS
        for seed in row.seeds
    ]


def make(name: str, place: Place) -> None:
    """Make one row."""
    whole, labels, seed = name.rsplit("-", 2)
    row = DISTILLED[whole.removeprefix(f"{STUDENT}_")]
    teacher = ROWS[row.teacher]
    paths = []
    for member in range(teacher.members):
        run = f"{teacher.model}-{labels}-{seed}" + f"-{member}" * (member > 0)
        train_run(run, teacher, int(labels), int(seed) + 100 * member, place)
        paths.append(place.run(run))
    data = place.labeled(int(labels), int(seed))
    unlabeled = [place.unlabeled()] if row.is_unlabeled else []
    given = ALL | row.settings
    config = DistillConfig(model=STUDENT, seed=int(seed), unlabeled=unlabeled, **given)
    seconds = distilled(place.run(name), paths, data, config)
    facts = {
        "network": STUDENT,
        "members": 1,
        "is_averaged": False,
        "learned_from": f"{row.teacher}'s soft labels"
        + (", also of unlabeled ones" if row.is_unlabeled else ""),
        "labels": int(labels),
        "seed": int(seed),
        "settings": given,
        "training_seconds": round(seconds, 1),
    }
    write_row(name, facts, ask(place.test(), [place.run(name)], is_averaged=False))


def table() -> None:
    """Print students beside their teachers and DSRF3D-v2, as Markdown."""
    rows = read_rows()
    kinds = ["dsrf3d_v2", "ensemble", "residual_small", STUDENT]
    kinds += [f"{STUDENT}_{kind}" for kind in DISTILLED]
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
