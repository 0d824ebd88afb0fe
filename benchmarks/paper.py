"""The paper's experiment: its teacher and students and ours, over SNR and tilt range.

Guo et al. 2018 (arXiv:1801.10597): simulated subtomograms with noise scaled to the SNR
of each, each normalized by itself; students learn by regression on the teacher's
logits. Beside them our default student, by our default way, from their teacher and from
a small one of ours. All networks get the same labels, the same number of batches and
the wedge-keeping augmentation. Rows are files in `benchmarks/results/paper/`; those
that are there are not made again, and the table shows a dash for those that are not.

    python benchmarks/paper.py --densities DIR --work DIR           # missing rows
    python benchmarks/paper.py --densities DIR --work DIR --full    # on a GPU, for days
    python benchmarks/paper.py --table --figure docs/images/paper.png

`--full` takes the paper's box and voxels, all densities of the folder (the paper has
23) and its ranges of SNR and tilt; its rows go to `benchmarks/results/paper-full/`.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ectkd.distillation.config import DistillConfig
from napari_ectkd.simulation.config import SubtomogramSimulation
from napari_ectkd.training.config import TrainConfig
from rows import ask, distilled, read_rows, save_row, simulated, trained

if TYPE_CHECKING:
    from napari_ectkd.dataset.config import DataConfig

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Grid:
    """The cells, and what is the same in all of them.

    Attributes
    ----------
    folder
        Of the rows, in `RESULTS`.
    complexes
        Densities by file name; none named for all of the folder.
    box, voxel_size
        Voxels, Å.
    labels, test
        Subtomograms of each class.
    snrs, tilts
        The cells; tilts to both sides, degrees.
    settings
        What differs from the default settings of training.
    rates
        Highest learning rate of a network, where it is not its own.
    """

    folder: str
    complexes: tuple[str, ...]
    box: int
    voxel_size: float
    labels: int
    test: int
    snrs: tuple[float, ...]
    tilts: tuple[int, ...]
    settings: dict[str, Any]
    rates: dict[str, float] = field(default_factory=dict)

    def learning(self, model: str) -> dict[str, Any]:
        """Return how a network learns, as settings."""
        return {
            "model": model,
            "validation_fraction": 0.0,
            "learning_rate": self.rates.get(model),
            **self.settings,
        }

    @property
    def cells(self) -> list[tuple[float, int]]:
        """SNR and tilt, the easiest first."""
        return [(snr, tilt) for snr in self.snrs for tilt in self.tilts]


# What a busy CPU makes in an afternoon: boxes as small as the paper's students take.
SMALL = Grid(
    folder="paper",
    complexes=("1bxn", "1qvr", "1u6g", "2cg9", "3j9i"),
    box=28,
    voxel_size=10.0,
    labels=96,
    test=200,
    snrs=(0.5, 0.3),
    tilts=(60, 40),
    settings={"batch_size": 24, "epochs": 25},
    # At its own rate, 0.001, DSRF3D-v2 stayed at chance for 600 batches of 8.
    rates={"dsrf3d_v2": 3e-4},
)
FULL = Grid(
    folder="paper-full",
    complexes=(),
    box=40,
    voxel_size=9.2,
    labels=500,
    test=200,
    snrs=(0.5, 0.3, 0.1, 0.05, 0.03),
    tilts=(60, 50, 40),
    settings={"epochs": 40},
)


@dataclass(frozen=True)
class Way:
    """A network, and what it learns from: labels, or a teacher by an objective."""

    model: str
    teacher: str = ""
    objective: str = ""

    @property
    def name(self) -> str:
        """Name of the way, without its cell."""
        return f"{self.model}-from-{self.teacher or 'labels'}"

    @property
    def settings(self) -> dict[str, Any]:
        """How it is distilled: in the paper from logits alone."""
        paper = {"objective": "logits", "soft_weight": 1.0}
        return paper if self.objective == "logits" else {}


PAPERS, OURS = "dsrf3d_v2", "residual_small"
STUDENTS = ("student3", "student2", "student1")
# In this order: those that take longest come last.
WAYS = [
    Way(PAPERS),
    Way("compact"),
    Way("compact", PAPERS),
    Way(OURS),
    Way("compact", OURS),
    *(
        way
        for student in STUDENTS
        for way in (Way(student), Way(student, PAPERS, "logits"))
    ),
]


def cell_name(snr: float, tilt: int) -> str:
    """Return the name of a cell."""
    return f"snr{snr:g}-tilt{tilt}"


def make(grid: Grid, way: Way, cell: tuple[float, int], place: Place) -> None:
    """Make one row."""
    folder = place.work / grid.folder / cell_name(*cell)
    data = place.data(grid, cell, "labeled", grid.labels, seed=1)
    run = folder / way.name
    if way.teacher:
        source = folder / Way(way.teacher).name
        trained(source, data, TrainConfig(**grid.learning(way.teacher)))
        config = DistillConfig(**grid.learning(way.model) | way.settings)
        kept = folder / f"{way.teacher}.safetensors"
        seconds = distilled(run, [source], data, config, kept)
    else:
        seconds = trained(run, data, TrainConfig(**grid.learning(way.model)))
    outcome = ask(
        place.data(grid, cell, "test", grid.test, seed=2), [run], is_averaged=False
    )
    facts = {
        "network": way.model,
        "learned_from": way.teacher or "labels",
        "objective": way.settings.get("objective", "soft") if way.teacher else "hard",
        "snr": cell[0],
        "tilt": cell[1],
        "noise": "per-particle",
        "labels": grid.labels,
        "box": grid.box,
        "voxel_size": grid.voxel_size,
        "settings": grid.settings | {"learning_rate": grid.rates.get(way.model)},
        "training_seconds": round(seconds, 1),
    }
    save_row(row_path(grid, way, cell), facts, outcome)


@dataclass(frozen=True)
class Place:
    """Where the densities are, and where data and checkpoints go."""

    densities: Path
    work: Path

    def data(
        self, grid: Grid, cell: tuple[float, int], name: str, n: int, seed: int
    ) -> DataConfig:
        """Return a data set of a cell; the same poses in all cells."""
        snr, tilt = cell
        files = [self.densities / f"{entry}.mrc" for entry in grid.complexes]
        return simulated(
            SubtomogramSimulation(
                density=files or [self.densities],
                out=self.work / grid.folder / cell_name(*cell) / name,
                per_class=n,
                box=grid.box,
                voxel_size=grid.voxel_size,
                snr=snr,
                tilt_range=(-tilt, tilt),
                noise="per-particle",
                seed=seed,
            )
        )


def row_path(grid: Grid, way: Way, cell: tuple[float, int]) -> Path:
    """Return the file of a row."""
    return RESULTS / grid.folder / f"{way.name}-{cell_name(*cell)}.json"


def accuracies(grid: Grid) -> dict[str, dict[tuple[float, int], float]]:
    """Return the accuracy of each way in each cell that was run."""
    rows = read_rows(RESULTS / grid.folder)
    return {
        way.name: {
            cell: rows[name]["accuracy"]
            for cell in grid.cells
            if (name := row_path(grid, way, cell).stem) in rows
        }
        for way in WAYS
    }


def table(grid: Grid) -> None:
    """Print what is there, as Markdown."""
    heads = [f"SNR {snr:g}, ±{tilt}°" for snr, tilt in grid.cells]
    print("| network | learned from | " + " | ".join(heads) + " |")
    print("|---|---|" + "---|" * len(heads))
    found = accuracies(grid)
    for way in WAYS:
        cells = [
            f"{100 * found[way.name][cell]:.1f} %" if cell in found[way.name] else "–"
            for cell in grid.cells
        ]
        source = way.teacher or "labels"
        if way.objective:
            source += ", its logits"
        print(f"| {way.model} | {source} | " + " | ".join(cells) + " |")


def figure(grid: Grid, path: Path) -> None:
    """Draw accuracy in each cell that was run: networks along x, hollow from labels."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    found = accuracies(grid)
    networks = [PAPERS, *sorted(STUDENTS), OURS, "compact"]
    marks = {"": ("o", "none"), PAPERS: ("o", "C0"), OURS: ("s", "C1")}
    beside = {"": -0.18, PAPERS: 0.0, OURS: 0.18}
    cells = [c for c in grid.cells if any(c in of_way for of_way in found.values())]
    columns = min(len(cells), len(grid.tilts))
    rows = -(-len(cells) // columns)
    shown, axes = plt.subplots(
        rows,
        columns,
        figsize=(4.4 * columns + 1, 2.9 * rows + 0.6),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat[len(cells) :]:
        axis.remove()
    for axis, (snr, tilt) in zip(axes.flat, cells, strict=False):
        axis.set_title(f"SNR {snr:g}, tilts to ±{tilt}°", fontsize=10)
        axis.axhline(100 / len(grid.complexes or [1] * 23), color="0.7", ls=":")
        axis.grid(axis="y", color="0.92")
        for way in WAYS:
            if (snr, tilt) not in found[way.name]:
                continue
            marker, fill = marks[way.teacher]
            axis.plot(
                networks.index(way.model) + beside[way.teacher],
                100 * found[way.name][snr, tilt],
                marker,
                mfc=fill,
                mec={"": "0.2", PAPERS: "C0", OURS: "C1"}[way.teacher],
                ms=8,
                mew=1.5,
                ls="none",
            )
        axis.set_xticks(
            range(len(networks)), networks, rotation=30, ha="right", fontsize=9
        )
        axis.set_xlim(-0.5, len(networks) - 0.5)
        axis.set_ylim(0, 104)
    shown.supylabel("accuracy on the test set, %", fontsize=10)
    texts = {"": "labels", PAPERS: PAPERS, OURS: OURS}
    handles = [
        plt.Line2D(
            [],
            [],
            marker=marker,
            mfc=fill,
            mec="0.2" if fill == "none" else fill,
            ls="none",
            ms=8,
            label=f"learned from {texts[source]}",
        )
        for source, (marker, fill) in marks.items()
    ]
    handles.append(plt.Line2D([], [], color="0.7", ls=":", label="by chance"))
    shown.legend(handles=handles, loc="outside upper center", ncols=2, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    shown.savefig(path, dpi=110)


def main() -> None:
    """Make rows; print the table; draw the figure if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--densities", type=Path, help="folder of density maps")
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work"))
    parser.add_argument("--full", action="store_true", help="the paper's grid")
    parser.add_argument("--table", action="store_true", help="print, make nothing")
    parser.add_argument("--figure", type=Path, help="PNG file to draw")
    parser.add_argument("--only", nargs="+", help="ways, such as compact-from-labels")
    parser.add_argument("--cells", nargs="+", help="cells, such as snr0.5-tilt60")
    arguments = parser.parse_args()
    grid = FULL if arguments.full else SMALL
    if not (arguments.table or arguments.figure):
        if arguments.densities is None:
            parser.error("say where the densities are (--densities)")
        place = Place(arguments.densities, arguments.work)
        for cell in grid.cells:
            if arguments.cells and cell_name(*cell) not in arguments.cells:
                continue
            for way in WAYS:
                if arguments.only and way.name not in arguments.only:
                    continue
                if not row_path(grid, way, cell).exists():
                    make(grid, way, cell, place)
    table(grid)
    if arguments.figure:
        figure(grid, arguments.figure)


if __name__ == "__main__":
    main()
