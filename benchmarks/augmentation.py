"""What each augmentation is worth: the compact student with one of them changed.

The labels, test set and recipe of `teachers.py`, 20 labels a class, two draws. The row
`compact` there is the default that each is compared with, draw by draw.

    python benchmarks/augmentation.py --densities DIR --work DIR
    python benchmarks/augmentation.py --table
"""

from __future__ import annotations

from statistics import fmean
from typing import Any

from rows import Place, fill_table
from teachers import ALL, Trained, make_row

STUDENT = "compact"
LABELS, SEEDS = 20, (0, 1)
CHANGES = {
    "no_rotations": {"rotations": False},
    "no_shift": {"shift": 0},
    "noise": {"noise": 0.5},
    "contrast": {"contrast": 0.3},
    "defocus": {"defocus": 0.5},
    "cutout": {"cutout": 0.3},
    "mirror": {"mirror": True},
    "free_rotations": {"free_rotations": True},
}


def names() -> list[str]:
    """Return the names of all rows, the default with which each draw begins too."""
    kinds = [STUDENT, *(f"{STUDENT}_{kind}" for kind in CHANGES)]
    return [f"{kind}-{LABELS}-{seed}" for seed in SEEDS for kind in kinds]


def make(name: str, place: Place) -> None:
    """Make one row."""
    kind = name.rsplit("-", 2)[0].removeprefix(f"{STUDENT}_")
    changes = CHANGES.get(kind, {})
    make_row(name, Trained(STUDENT, settings=ALL | changes), place)


def table(rows: dict[str, dict[str, Any]]) -> None:
    """Print rows, as Markdown."""
    print("| changed | draws | accuracy | the default there | difference |")
    print("|---|---|---|---|---|")
    for kind, change in CHANGES.items():
        pairs = [
            (rows[changed]["accuracy"], rows[usual]["accuracy"])
            for seed in SEEDS
            if (changed := f"{STUDENT}_{kind}-{LABELS}-{seed}") in rows
            and (usual := f"{STUDENT}-{LABELS}-{seed}") in rows
        ]
        if pairs:
            mine, usual_s = (fmean(values) for values in zip(*pairs, strict=True))
            text = ", ".join(f"{name} {value}" for name, value in change.items())
            print(
                f"| {text} | {len(pairs)} | {100 * mine:.1f} | {100 * usual_s:.1f} | "
                f"{100 * (mine - usual_s):+.1f} |"
            )


if __name__ == "__main__":
    fill_table(__doc__, names(), make, table)
