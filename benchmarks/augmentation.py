"""What each augmentation is worth: the compact student with one of them changed.

The labels, test set and recipe of `teachers.py`, 20 labels a class, two draws. The row
`compact` there is the default that each is compared with, draw by draw.

    python benchmarks/augmentation.py --densities DIR --work DIR
    python benchmarks/augmentation.py --table
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean

from rows import Place, read_rows, row_path
from teachers import ALL, ROWS, Trained, make

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


def table() -> None:
    """Print what is there, as Markdown."""
    rows = read_rows()
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


def main() -> None:
    """Make rows, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--densities", type=Path, help="folder of MRC maps")
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work"))
    parser.add_argument("--table", action="store_true", help="print, make nothing")
    arguments = parser.parse_args()
    if not arguments.table:
        if arguments.densities is None:
            parser.error("say where the densities are (--densities)")
        place = Place(arguments.densities, arguments.work)
        for seed in SEEDS:
            usual = f"{STUDENT}-{LABELS}-{seed}"
            if not row_path(usual).exists():
                make(usual, ROWS[STUDENT], place)
            for kind, change in CHANGES.items():
                name = f"{STUDENT}_{kind}-{LABELS}-{seed}"
                if not row_path(name).exists():
                    make(name, Trained(STUDENT, settings=ALL | change), place)
    table()


if __name__ == "__main__":
    main()
