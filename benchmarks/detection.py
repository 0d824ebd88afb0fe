"""What a sweep finds in a crowded tomogram, beside picking first, then classifying.

Complexes of 240 kDa and up at common noise, SNR 0.1 for the median class, the truth
known. The same student each time; a particle counts as found within 100 Å of its
center, misses and false alarms count against a class. Students differ in what they were
shown of `none`: nothing but empty noise between particles far apart; also particles off
the center and with neighbors; and then refined by hits in another tomogram that were
accepted, corrected or rejected by the truth, as a person would. A seed draws
tomograms, examples and weights; what the file says of other seeds is kept, so that
they can be measured one after the other.

    python benchmarks/detection.py --densities DIR --out detection.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from machine import commit
from napari_ectkd.cli.app import run
from napari_ectkd.evaluation.matching import match_picks
from napari_ectkd.evaluation.report import evaluate_picks
from napari_ectkd.io.picks import NONE
from napari_ectkd.io.star import read_picks, write_picks

COMPLEXES = {
    "1bxn": 130,
    "1qvr": 160,
    "3cf3": 160,
    "3j9i": 170,
    "4cr2": 200,
    "4v4r": 250,
}
"""Diameters in Å by PDB entry, for keeping hits apart and for picking."""
RADIUS = 100.0
VOXEL_SIZE = 10.0
BOX = 32
PER_CLASS = 300


def main() -> None:
    """Make what is missing in the work folder, measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--densities", type=Path, required=True, help="MRC maps")
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work/detection"))
    parser.add_argument("--shape", type=int, nargs=3, default=(128, 384, 384))
    parser.add_argument("--particles", type=int, default=40, help="of each class")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    rows = []
    if arguments.out and arguments.out.exists():
        rows = json.loads(arguments.out.read_text())["rows"]
    for seed in arguments.seeds:
        rows = [row for row in rows if row["seed"] != seed]
        rows += [{"seed": seed} | row for row in measure(arguments, seed)]
        if arguments.out:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            facts = {"commit": commit(), "shape": list(arguments.shape)}
            arguments.out.write_text(
                json.dumps(facts | {"rows": rows}, indent=1) + "\n"
            )
    show(rows)


def show(rows: list[dict[str, Any]]) -> None:
    """Print a table in Markdown, means and standard deviations over the seeds."""
    print(
        "| student | how | seeds | macro F1 | found | false alarms | off by, median |"
    )
    print("|---|---|---|---|---|---|---|")
    for student, how in dict.fromkeys((row["student"], row["how"]) for row in rows):
        same = [r for r in rows if (r["student"], r["how"]) == (student, how)]
        macro = spread([row["macro_f1"] for row in same], 3)
        found = spread([row["found"] / row["particles"] for row in same], 3)
        false = spread([row["false_alarms"] for row in same], 0)
        off = spread([row["median_error"] for row in same], 1)
        cells = [student, how, str(len(same)), macro, found, false, f"{off} Å"]
        print(f"| {' | '.join(cells)} |")


def spread(values: list[float], digits: int) -> str:
    """Return mean and standard deviation as text."""
    deviation = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{deviation}"


def measure(arguments: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    """Return one row for each student and way."""
    work: Path = arguments.work / str(seed)
    work.mkdir(parents=True, exist_ok=True)
    densities = [
        part
        for entry in COMPLEXES
        for part in ("--density", str(arguments.densities / f"{entry}.mrc"))
    ]
    for name, number in (("test", seed + 100), ("other", seed + 200)):
        if not (work / f"{name}.star").exists():
            command(
                *("simulate", "tomogram", *densities, "--seed", number),
                *("--out", work / f"{name}.mrc", "--truth", work / f"{name}.star"),
                *("--shape", *arguments.shape, "--per-class", arguments.particles),
                *("--voxel-size", VOXEL_SIZE, "--snr", 0.1, "--box", BOX),
            )
    truth = read_picks(work / "test.star")
    rows = []
    for student, shown in (
        ("empty noise as none", ("--none", PER_CLASS)),
        ("off the center, with neighbors", ("--none", 600, "--neighbors", 0.5)),
    ):
        stem = student.split(" ")[0]
        model = work / f"{stem}-student"
        if not (model / "best.safetensors").exists():
            command(
                *("simulate", "subtomograms", *densities, "--seed", seed, *shown),
                *("--out", work / f"{stem}-data", "--per-class", PER_CLASS),
                *("--voxel-size", VOXEL_SIZE, "--snr", 0.1, "--box", BOX),
            )
            command(
                *("train", "--data", work / f"{stem}-data", "--out", model),
                *("--model", "compact", "--seed", seed),
            )
        rows += both_ways(work, model, student, truth)
    refined = refine(work, model)
    return rows + both_ways(work, refined, "the same, refined once", truth)


def both_ways(
    work: Path, model: Path, student: str, truth: Any
) -> list[dict[str, Any]]:
    """Return the rows of one student: swept, and on automatic picks."""
    swept = sweep(work, model, "test")
    picks, classes = work / "picks.star", work / f"{model.name}-classes.star"
    if not picks.exists():
        command(
            *("pick", work / "test.mrc", "--no-invert", "--out", picks),
            *("--diameter", np.median(list(COMPLEXES.values()))),
        )
    command(
        *("classify", work / "test.mrc", "--no-invert", "--picks", picks),
        *("--model", model, "--out", classes, "--min-confidence", 0.5),
    )
    return [
        scored(swept, truth) | {"student": student, "how": "sweep"},
        scored(classes, truth) | {"student": student, "how": "pick, then classify"},
    ]


def sweep(work: Path, model: Path, tomogram: str) -> Path:
    """Sweep a tomogram; return the STAR file."""
    out = work / f"{model.name}-{tomogram}.star"
    diameters = json.dumps(COMPLEXES)
    command(
        *("sweep", work / f"{tomogram}.mrc", "--no-invert", "--model", model),
        *("--out", out, "--diameters", diameters),
    )
    return out


def refine(work: Path, model: Path) -> Path:
    """Let a student learn from its hits in the other tomogram, judged by the truth."""
    refined = work / f"{model.name}-refined"
    if (refined / "best.safetensors").exists():
        return refined
    hits = read_picks(sweep(work, model, "other"))
    truth = read_picks(work / "other.star")
    label = np.full(len(hits), NONE, dtype=object)
    pairs, _, _ = match_picks(hits, truth, RADIUS)
    label[pairs[:, 0]] = truth.label[pairs[:, 1]]
    write_picks(work / "judged.star", hits.with_labels(label), VOXEL_SIZE)
    command(
        *("refine", work / "judged.star", "--model", model, "--out", refined),
        *("--tomograms", work / "other.mrc"),
    )
    return refined


def scored(star: Path, truth: Any) -> dict[str, Any]:
    """Return how a list of classified picks compares with the truth."""
    found = read_picks(star)
    report = evaluate_picks(found, truth, RADIUS)
    detected = found[~np.isin(found.prediction, (NONE, "unknown", ""))]
    pairs, _, false_alarms = match_picks(detected, truth, RADIUS)
    off = detected.positions[pairs[:, 0]] - truth.positions[pairs[:, 1]]
    return {
        "macro_f1": report.macro_f1,
        "f1": {k: round(v.f1, 4) for k, v in report.classes.items() if k != NONE},
        "found": len(pairs),
        "particles": len(truth),
        "false_alarms": len(false_alarms),
        "median_error": float(np.median(np.linalg.norm(off, axis=1))),
    }


def command(*arguments: Any) -> None:
    """Run `ectkd`; stop if it fails."""
    if code := run([str(argument) for argument in arguments]):
        raise SystemExit(code)


if __name__ == "__main__":
    main()
