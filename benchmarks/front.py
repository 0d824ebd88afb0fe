"""Accuracy against speed: the front of the students, and what is behind it.

Joins the accuracies of `teachers.py` and `distillation.py` with the speeds of
`models.py`, which is box 40 and 23 classes.

    python benchmarks/front.py --figure docs/images/front.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from rows import FIRST_DRAWS, RESULTS, read_rows, summary
from teachers import LABELS

SPEEDS = RESULTS.parent / "models-box40.json"
SHOWN = {
    "dsrf3d_v2": ("DSRF3D-v2, alone", "dsrf3d_v2"),
    "residual_small": ("residual_small, alone", "residual_small"),
    "compact": ("compact, alone", "compact"),
    "compact_wide_unlabeled": ("compact_wide, distilled", "compact_wide"),
    "compact_unlabeled_cold": ("compact, distilled (the default)", "compact"),
    "compact_nano_unlabeled": ("compact_nano, distilled", "compact_nano"),
}
"""By kind of row: its name here, and the network whose speed it has."""


def main() -> None:
    """Print the table in Markdown, and draw it if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figure", type=Path, help="PNG file to draw")
    parser.add_argument("--first-draws", action="store_true", help="of those rows")
    arguments = parser.parse_args()
    speeds = {row["name"]: row for row in json.loads(SPEEDS.read_text())["rows"]}
    found = accuracies(FIRST_DRAWS if arguments.first_draws else RESULTS)
    print("| | parameters | times as fast | 20 labels a class | 100 labels a class |")
    print("|---|---|---|---|---|")
    for kind, (title, network) in SHOWN.items():
        speed = speeds[network]
        cells = [
            f"{summary(values)} % ({len(values)})" if values else "–"
            for values in (found[kind, labels] for labels in LABELS)
        ]
        print(
            f"| {title} | {speed['parameters'] / 1e6:.2f} M | "
            f"{speed['ratio_float32']:.0f} | {' | '.join(cells)} |"
        )
    if arguments.figure:
        draw(found, speeds, arguments.figure)


def accuracies(folder: Path) -> dict[tuple[str, int], list[float]]:
    """Return the accuracies of all draws, by kind of row and labels a class."""
    rows = read_rows(folder)
    return {
        (kind, labels): [
            row["accuracy"]
            for name, row in rows.items()
            if name.rsplit("-", 1)[0] == f"{kind}-{labels}"
        ]
        for kind in SHOWN
        for labels in LABELS
    }


def draw(
    found: dict[tuple[str, int], list[float]],
    speeds: dict[str, dict[str, Any]],
    path: Path,
) -> None:
    """Draw mean and spread of accuracy over speed, for each count of labels."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown, axes = plt.subplots(
        1, 2, figsize=(9.5, 3.9), sharey=True, layout="constrained"
    )
    for axis, labels in zip(axes, LABELS, strict=True):
        for number, (kind, (title, network)) in enumerate(SHOWN.items()):
            values = 100 * np.array(found[kind, labels])
            is_distilled = "distilled" in title
            axis.errorbar(
                speeds[network]["ratio_float32"],
                values.mean(),
                values.std(ddof=1) if len(values) > 1 else 0,
                marker="o",
                ms=8,
                mfc=f"C{number}" if is_distilled else "white",
                color=f"C{number}",
                capsize=3,
                label=title,
            )
        axis.set_xscale("log")
        axis.set_xticks([1, 10, 100], ["1", "10", "100"])
        axis.set_title(f"{labels} labels a class", fontsize=10)
        axis.set_xlabel("times as fast as DSRF3D-v2")
        axis.grid(color="0.92")
    axes[0].set_ylabel("accuracy, %")
    axes[1].legend(fontsize=8, loc="lower right")
    shown.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
