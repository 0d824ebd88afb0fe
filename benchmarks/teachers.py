"""Teachers and students by what they learn from few labels.

Nine complexes and none, common noise of SNR 0.05 for the median class, box 32, 20 and
100 labels a class; all networks get the same labels and the same augmentation. Later
generations learn from 12,000 subtomograms without labels too. Rows are files in
`benchmarks/results/accuracy/`; those that are there are not made again.

    python benchmarks/teachers.py --densities DIR --work DIR            # missing rows
    python benchmarks/teachers.py --densities DIR --work DIR dsrf3d_v2-100-0
    python benchmarks/teachers.py --table
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ectkd.distillation import generations
from napari_ectkd.distillation.config import GenerationConfig
from napari_ectkd.distillation.ways import NETWORKS
from napari_ectkd.runs import Run, members_of
from napari_ectkd.training.config import TrainConfig
from rows import Place, ask, fill_table, summary, trained, write_row

if TYPE_CHECKING:
    from pathlib import Path

AVERAGED = "_averaged"
"""Ends the name of a row that asks another's run over the wedge's rotations."""
LABELS = (20, 100)
SEEDS = (0, 1, 2)
BEST = "third_generation"


@dataclass(frozen=True)
class Trained:
    """A network trained on labels.

    Attributes
    ----------
    model
        Its name in the registry.
    seeds
        Draws of labels (and of weights).
    settings
        What differs from the default settings of `ectkd train`.
    members
        Runs of this many other seeds on the same labels, asked together.
    is_averaged
        Whether asked over the rotations that keep the missing wedge.
    generation
        Which is asked, of a teacher that learns in generations from 12,000 unlabeled
        subtomograms too; 0 for what learns from labels alone.
    """

    model: str
    seeds: tuple[int, ...] = SEEDS
    settings: dict[str, Any] = field(default_factory=dict)
    members: int = 1
    is_averaged: bool = False
    generation: int = 0


# All labels teach and the last weights count: a fifth of 20 labels kept for validation
# cost the compact student four points (`compact_kept_fifth`).
ALL = {"validation_fraction": 0.0}
ROWS = {
    "dsrf3d_v2": Trained("dsrf3d_v2", settings={"batches": 1200, **ALL}),
    # As published but for its early stopping: five epochs of so few labels are nothing.
    "dsrf3d_v2_published": Trained(
        "dsrf3d_v2_published", seeds=(0,), settings={"batches": 1200, **ALL}
    ),
    "residual_small": Trained("residual_small", settings=ALL),
    "residual": Trained("residual", seeds=(0,), settings=ALL),
    # Half the batches of DSRF3D-v2, in about the same time.
    "monai_resnet10": Trained(
        "monai:resnet10", seeds=(0,), settings={"batches": 600, **ALL}
    ),
    "compact": Trained("compact", settings=ALL),
    # What a fifth of the labels is worth: kept for validation, and not learned again.
    "compact_kept_fifth": Trained(
        "compact", settings={"validation_fraction": 0.2, "refit": False}
    ),
    "compact_averaged": Trained("compact", settings=ALL, is_averaged=True),
    "ensemble": Trained("residual_small", settings=ALL, members=4, is_averaged=True),
    # `ectkd train --members 4 --unlabeled …`; its first generation is an ensemble.
    "first_generation": Trained(
        "residual_small", settings=ALL, members=4, is_averaged=True, generation=1
    ),
    "second_generation": Trained(
        "residual_small", settings=ALL, members=4, is_averaged=True, generation=2
    ),
    "third_generation": Trained(
        "residual_small", settings=ALL, members=4, is_averaged=True, generation=3
    ),
}
GENERATIONS = 3


def names() -> list[str]:
    """Return the names of all rows, the cheap ones first."""
    found = [
        f"{kind}-{labels}-{seed}"
        for kind, row in ROWS.items()
        for labels in LABELS
        for seed in row.seeds
    ]
    return sorted(found, key=lambda name: name.startswith("dsrf3d"))


def make(name: str, place: Place) -> None:
    """Make one row of this table."""
    make_row(name, ROWS[name.rsplit("-", 2)[0]], place)


def make_row(name: str, row: Trained, place: Place) -> None:
    """Make the row of a network trained on labels."""
    kind, labels, seed = name.rsplit("-", 2)
    runs, seconds = train_members(kind, row, int(labels), int(seed), place)
    facts = {
        "network": NETWORKS[0] if row.generation > 1 else row.model,
        "members": len(runs),
        "is_averaged": row.is_averaged,
        "learned_from": "labels"
        + ", in generations of unlabeled ones too" * (row.generation > 1),
        "labels": int(labels),
        "seed": int(seed),
        "settings": row.settings,
        "training_seconds": round(seconds, 1),
    }
    write_row(name, facts, ask(place.test(), runs, is_averaged=row.is_averaged))


def train_members(
    kind: str, row: Trained, labels: int, seed: int, place: Place
) -> tuple[list[Path], float]:
    """Train the runs of a row unless they are there; return them and their seconds.

    Of an ensemble the first member is the row of its network alone; averaged or not, it
    is the same run that is asked. Of a later generation the seconds are its own.
    """
    if row.generation:
        return train_generations(row, labels, seed, place)
    alone = row.model if row.members > 1 else kind.removesuffix(AVERAGED)
    runs, seconds = [], 0.0
    for member in range(row.members):
        run = member_name(alone, labels, seed, member)
        seconds += train_run(run, row, labels, seed + 100 * member, place)
        runs.append(place.run(run))
    return runs, seconds


def train_generations(
    row: Trained, labels: int, seed: int, place: Place
) -> tuple[list[Path], float]:
    """Train all generations unless they are there; return the runs of one of them."""
    run = Run(place.run(f"generations-{labels}-{seed}"))
    config = GenerationConfig(
        model=row.model,
        members=row.members,
        generations=GENERATIONS,
        unlabeled=[place.unlabeled()],
        seed=seed,
        **row.settings,
    )
    trained(run.path, place.labeled(labels, seed), config, generations.train)
    home = run if row.generation == GENERATIONS else run.generation(row.generation)
    paths = members_of(home.path)
    results = [json.loads(Run(path).result_path.read_text()) for path in paths]
    return paths, sum(result["seconds"] for result in results)


def member_name(kind: str, labels: int, seed: int, member: int) -> str:
    """Return the name of a run; the first member's is that of the row."""
    return f"{kind}-{labels}-{seed}" + f"-{member}" * (member > 0)


def train_run(name: str, row: Trained, labels: int, seed: int, place: Place) -> float:
    """Train a run unless it is there, or go on with it; return its seconds."""
    given = dict(row.settings)
    if batches := given.pop("batches", None):
        given["epochs"] = batches // (labels * 10 // 50)
    config = TrainConfig(model=row.model, seed=seed, **given)
    return trained(place.run(name), place.labeled(labels, seed % 100), config)


def table(rows: dict[str, dict[str, Any]]) -> None:
    """Print rows, as Markdown."""
    print(
        "| row | labels a class | seeds | accuracy | small | medium | large "
        "| test loss | calibration error | MACs | minutes to train |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for labels, kind in product(LABELS, ROWS):
        draws = f"{kind}-{labels}"
        same = [r for n, r in rows.items() if n.rsplit("-", 1)[0] == draws]
        if not same:
            continue
        sizes = [
            summary([r["accuracy_by_size"][size] for r in same])
            for size in ("small", "medium", "large")
        ]
        accuracy = summary([r["accuracy"] for r in same])
        loss = np.mean([r["test_loss"] for r in same])
        # Older rows lack it.
        errors = [r["calibration_error"] for r in same if "calibration_error" in r]
        off = summary(errors) if errors else "–"
        macs = f"{same[0]['macs'] / 1e6:,.0f} M"
        minutes = np.median([r["training_seconds"] for r in same]) / 60
        cells = [kind, str(labels), str(len(same)), accuracy, *sizes]
        cells += [f"{loss:.3f}", off, macs, f"{minutes:.0f}"]
        print("| " + " | ".join(cells) + " |")
    print()
    for labels, kind in product(LABELS, ("dsrf3d_v2", "compact")):
        print(
            f"{BEST} over {kind}, {labels} labels a class: {leads(rows, kind, labels)}"
        )


def leads(rows: dict[str, dict[str, Any]], kind: str, labels: int) -> str:
    """Return by how many points the best teacher leads on each draw of labels."""
    pairs = [(f"{BEST}-{labels}-{n}", f"{kind}-{labels}-{n}") for n in SEEDS]
    found = [
        100 * (rows[best]["accuracy"] - rows[other]["accuracy"])
        for best, other in pairs
        if best in rows and other in rows
    ]
    each = ", ".join(f"{lead:.1f}" for lead in found)
    return f"{each} points (mean {np.mean(found):.1f})" if found else "no common draw"


if __name__ == "__main__":
    fill_table(__doc__, names(), make, table)
