"""Labels that a network which has not seen them confidently disagrees with.

Confident learning (Northcutt, Jiang, Chuang 2021, JAIR 70, arXiv:1911.00068): a label
is suspect if another class is at least as probable as it is, on average, for those
labeled so. The threshold of each class being its own, a class that a network is never
sure of is not suspect as a whole. cleanlab, the authors' library, does this and much
more; these are the few lines of it that are needed here.
"""

from __future__ import annotations

import csv
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from napari_ectkd.dataset.augment import wedge_rotations
from napari_ectkd.dataset.sources import load_dataset
from napari_ectkd.devices.precision import choose_precision
from napari_ectkd.errors import DataError
from napari_ectkd.events import EpochEnd, Noted, Progress, Saved
from napari_ectkd.io.atomic import atomic_path
from napari_ectkd.io.picks import Picks
from napari_ectkd.io.star import write_picks
from napari_ectkd.models.inference import infer_logits, to_device
from napari_ectkd.models.registry import first_that_takes
from napari_ectkd.runs import Run
from napari_ectkd.training.batches import Material
from napari_ectkd.training.config import TrainConfig
from napari_ectkd.training.defaults import steps_per_epoch
from napari_ectkd.training.folds import make_folds
from napari_ectkd.training.learner import Learner
from napari_ectkd.training.loop import fit
from napari_ectkd.training.objective import HardLabels
from napari_ectkd.training.train import check_settings
from napari_ectkd.training.workers import choose_worker_device

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_ectkd.dataset.config import DataConfig
    from napari_ectkd.dataset.subtomograms import LabeledSubtomograms
    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.training.config import SuspectConfig

STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 1000, 5, 200
"""Batches and epochs that a fold takes by default: a network that learned too little
disagrees with right labels, and few labels are overfitted by more epochs."""
MODELS = ("compact", "residual_small")
"""The first of these that takes the box."""


@dataclass(frozen=True, eq=False)
class Suspects:
    """Labels to look at again, the most suspect first.

    Attributes
    ----------
    index
        `(n,)` which subtomograms.
    suggested
        `(n,)` the class that each seems to be.
    margin
        `(n,)` probability of the label less that of the suggested class; below 0.
    """

    index: NDArray[np.int64]
    suggested: NDArray[np.int64]
    margin: NDArray[np.float64]


def find_suspects(
    targets: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> Suspects:
    """Return the labels that are confidently disagreed with.

    Parameters
    ----------
    targets
        `(m,)` labels as class indices.
    probabilities
        `(m, k)` out of fold: by networks that have not seen these labels.

    References
    ----------
    Northcutt, Jiang, Chuang (2021), arXiv:1911.00068, equations 1 and 2.
    """
    n_classes = probabilities.shape[1]
    threshold = np.array(
        [
            probabilities[targets == j, j].mean() if (targets == j).any() else np.inf
            for j in range(n_classes)
        ]
    )
    confident = np.where(probabilities >= threshold, probabilities, -1.0)
    suggested = confident.argmax(axis=1)
    rows = np.arange(len(targets))
    margin = probabilities[rows, targets] - probabilities[rows, suggested]
    is_suspect = (confident[rows, suggested] >= 0) & (suggested != targets)
    # Above its own threshold too, a label is suspect only if the other is likelier.
    found = np.flatnonzero(is_suspect & (margin < 0))
    found = found[np.argsort(margin[found], kind="stable")]
    return Suspects(found, suggested[found], margin[found])


def suspect_labels(
    data_config: DataConfig, config: SuspectConfig, out: Path, *, cancel: Cancel
) -> Generator[Event, None, dict[str, Any]]:
    """Train a network a fold, ask it about what it has not seen, list what is suspect.

    Parameters
    ----------
    data_config
        The labels to look through.
    config
        Folds, and how to learn.
    out
        `.csv`, or `.star` for picks, with the suggested class as their prediction.
    cancel
        Looked at once per batch.

    Returns
    -------
    dict
        `n`, `n_labels` and `suspects`, a list of rows.

    Raises
    ------
    EctkdError
        If a setting cannot work; from the first event on also if the data is broken.
    """
    check_settings(config)
    return _suspect_labels(data_config, config, out, cancel)


def default_epochs(steps: int) -> int:
    """Return the epochs of a fold, each of so many batches."""
    return min(max(FEWEST_EPOCHS, -(-STEPS // steps)), MOST_EPOCHS)


def _suspect_labels(
    data_config: DataConfig, config: SuspectConfig, out: Path, cancel: Cancel
) -> Generator[Event, None, dict[str, Any]]:
    data = yield from load_dataset(data_config, cancel=cancel)
    if out.suffix == ".star" and not np.isfinite(data.positions).all():
        raise DataError(f"{out.name}: no picks of tomograms, no STAR file; name a .csv")
    classes = data.classes
    targets = data.targets(classes)
    rare = [name for name, n in data.counts().items() if n < config.folds]
    if len(classes) < 2 or len(rare) == len(classes):
        raise DataError(
            f"too few labels to hold {config.folds} parts out: label more, or take "
            "fewer --folds"
        )
    if rare:
        yield Noted(
            text=f"fewer labels than folds: {', '.join(rare)}; what is said of them is "
            "a guess",
            is_warning=True,
        )
    probabilities = yield from _out_of_fold(data, targets, classes, config, cancel)
    suspects = find_suspects(targets, probabilities)
    rows = [_row(data, classes, suspects, k) for k in range(len(suspects.index))]
    _write(out, data, classes, probabilities, suspects, rows)
    yield Saved(what="suspect labels", path=str(out))
    return {"n": len(rows), "n_labels": len(data), "suspects": rows}


def _out_of_fold(
    data: LabeledSubtomograms,
    targets: NDArray[np.int64],
    classes: list[str],
    config: SuspectConfig,
    cancel: Cancel,
) -> Generator[Event, None, NDArray[np.float64]]:
    """Return `(m, k)` probabilities by networks that have not seen the label."""
    found = np.full((len(data), len(classes)), 1.0 / len(classes))
    folds = make_folds(data, targets, config.folds, config.seed)
    for number, split in enumerate(folds, start=1):
        material = Material(data, split, targets, classes)
        logits = yield from _judge(
            material, config, f"part {number} of {len(folds)}", cancel
        )
        found[split.validation] = torch.softmax(logits.double(), dim=1).numpy()
    return found


def _judge(
    material: Material, config: SuspectConfig, of: str, cancel: Cancel
) -> Generator[Event, None, torch.Tensor]:
    """Train without the held-out part; return the logits of that part."""
    split = material.split
    steps = steps_per_epoch(len(split.training), config.batch_size)
    learning = TrainConfig(
        **config.model_dump(exclude={"folds", "epochs"}),
        epochs=config.epochs or default_epochs(steps),
    )
    alone = Material(
        material.data,
        type(split)(split.training, split.validation[:0], split.how),
        material.targets,
        material.classes,
    )
    name = config.model or first_that_takes(MODELS, material.data.box)
    learner = Learner.create(name, alone, learning, trained_by="train")
    with tempfile.TemporaryDirectory() as folder:
        stream = fit(
            learner.model,
            alone,
            HardLabels(config.label_smoothing),
            learning,
            Run(folder),
            learner.info,
            cancel=cancel,
        )
        for event in stream:
            if isinstance(event, EpochEnd):
                yield Progress(
                    stage=of,
                    done=event.epoch,
                    total=event.epochs,
                    seconds_left=event.seconds_left,
                )
            elif isinstance(event, Noted):
                yield event
    device = choose_worker_device(config.device)
    return (
        yield from infer_logits(
            to_device(learner.model, device),
            material.data.read,
            split.validation,
            device=device,
            dtype=choose_precision(device, config.precision),
            batch_size=config.batch_size,
            cancel=cancel,
            views=wedge_rotations(material.data.tilt_range),
            stage=f"{of}: ask",
        )
    )


def _row(
    data: LabeledSubtomograms, classes: list[str], suspects: Suspects, k: int
) -> dict[str, Any]:
    index = int(suspects.index[k])
    z, y, x = (
        None if np.isnan(v) else round(float(v), 3) for v in data.positions[index]
    )
    return {
        "row": index + 1,
        "tomogram": str(data.tomogram[index]),
        "x": x,
        "y": y,
        "z": z,
        "label": str(data.label[index]),
        "suggested": classes[int(suspects.suggested[k])],
        "margin": round(float(suspects.margin[k]), 4),
    }


def _write(
    out: Path,
    data: LabeledSubtomograms,
    classes: list[str],
    probabilities: NDArray[np.float64],
    suspects: Suspects,
    rows: list[dict[str, Any]],
) -> None:
    index = suspects.index
    if out.suffix == ".star":
        picks = Picks.create(
            data.positions[index], data.tomogram[index], label=data.label[index]
        ).with_predictions(pd.DataFrame(probabilities[index], columns=classes))
        write_picks(out, picks, data.voxel_size)
        return
    names = ["row", "tomogram", "x", "y", "z", "label", "suggested", "margin"]
    with (
        atomic_path(out) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
