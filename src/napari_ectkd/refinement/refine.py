"""The stage: from a model and corrected hits to a model that has learned from them.

It goes on from the model's own weights, at a lower rate, on its old examples and on the
corrected hits; these count several times. All are learned by their labels alone: a
teacher would contradict what the person has just corrected.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.devices.choice import choose_device
from napari_ectkd.errors import ConfigError, DataError, FormatError
from napari_ectkd.events import Finished, Noted, Saved
from napari_ectkd.io.picks import join_picks
from napari_ectkd.io.star import read_picks, write_picks
from napari_ectkd.io.tomogram_list import open_tomograms
from napari_ectkd.models.checkpoint import load_checkpoint
from napari_ectkd.models.registry import find_model
from napari_ectkd.refinement.corrections import corrections_of
from napari_ectkd.runs import Run
from napari_ectkd.training.config import TrainConfig
from napari_ectkd.training.learner import Learner
from napari_ectkd.training.lesson import Lesson
from napari_ectkd.training.objective import HardLabels
from napari_ectkd.training.train import prepare

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from torch import nn

    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.io.picks import Picks
    from napari_ectkd.models.checkpoint import CheckpointInfo
    from napari_ectkd.refinement.config import RefineConfig
    from napari_ectkd.training.batches import Material

CORRECTIONS = "corrections.star"
RATE = 0.3
"""Of the network's highest rate, where it goes on from weights that are good."""
STEPS = 500
"""Batches that it goes on for."""


@dataclass(frozen=True)
class Plan:
    """What to learn from, and how.

    Attributes
    ----------
    data
        The old examples, and the corrected hits in the run's folder.
    learning
        As the model learned before, but for what is changed.
    counts
        How many hits were accepted, relabeled, rejected and not used.
    picks
        The corrected hits; None where a run goes on, whose folder holds them.
    voxel_sizes
        Å, by the name of their tomograms.
    """

    data: DataConfig
    learning: TrainConfig
    counts: dict[str, int]
    picks: Picks | None = None
    voxel_sizes: dict[str, float] = field(default_factory=dict)


def plan_refinement(
    model: Path,
    hits: Sequence[Path],
    tomograms: Sequence[Path],
    run: Run,
    config: RefineConfig,
    old: DataConfig | None = None,
) -> Plan:
    """Return what a model is to learn from, and how; nothing is written yet.

    Parameters
    ----------
    model
        Run folder of the model, or its checkpoint file.
    hits
        STAR files of sweeps with what a person said of the hits as their labels.
    tomograms
        Where their tomograms are.
    run
        Where the result goes.
    config
        How to learn again.
    old
        The old examples; by default those that the model's run names.

    Raises
    ------
    EctkdError
        If a file is missing or broken, the labels do not fit the model, or nobody knows
        what it learned from.
    """
    _, info = load_checkpoint(model)
    kept = _kept(model)
    if old is None or not old.data:
        if "data" not in kept:
            raise ConfigError(
                f"{model} does not say what it was trained on; name its data (--data)"
            )
        old = _checked(DataConfig, kept["data"], model)
    found = [read_picks(path) for path in hits]
    corrections = corrections_of(join_picks(found), info, config.accept_above)
    names = set(corrections.picks.tomogram)
    sizes = {n: t.voxel_size for n, t in open_tomograms(tomograms, names).items()}
    path = (run.path / CORRECTIONS).resolve()
    data = old.model_copy(
        update={
            "data": [p.resolve() for p in old.data] + [path] * config.weight,
            # Often the same list: a tomogram that is named twice would be ambiguous.
            "tomograms": list(
                dict.fromkeys(p.resolve() for p in (*old.tomograms, *tomograms))
            ),
            "box": info.box,
        }
    )
    known = {n: v for n, v in kept.get("config", {}).items() if n in _TRAINING}
    learning = _checked(TrainConfig, known, model).model_copy(
        update={
            "model": info.model,
            "epochs": config.epochs,
            "seed": config.seed,
            "device": config.device,
            "precision": config.precision,
        }
    )
    return Plan(data, learning, corrections.counts(), corrections.picks, sizes)


def refine(
    model: Path,
    plan: Plan,
    config: RefineConfig,
    run: Run,
    *,
    cancel: Cancel,
    is_resumed: bool = False,
) -> Iterator[Event]:
    """Let a model learn again; its checkpoints go into the run's folder.

    Parameters
    ----------
    model
        Run folder of the model, or its checkpoint file.
    plan
        From `plan_refinement`.
    config
        How to learn again.
    run
        A run folder that has been created.
    cancel
        Looked at once per batch.
    is_resumed
        Whether to go on with the run's saved state.

    Raises
    ------
    EctkdError
        If there is no such device; from the first event on also if the data is broken.
    """
    choose_device(config.device)
    network, info = load_checkpoint(model)
    return _refine(network, info, plan, config, run, cancel, is_resumed)


def _refine(
    network: nn.Module,
    info: CheckpointInfo,
    plan: Plan,
    config: RefineConfig,
    run: Run,
    cancel: Cancel,
    is_resumed: bool,
) -> Generator[Event, None, None]:
    learning = plan.learning
    if plan.picks is not None:
        write_picks(run.path / CORRECTIONS, plan.picks, plan.voxel_sizes)
        yield Saved(what="corrected hits", path=str(run.path / CORRECTIONS))
        yield Noted(
            text="hits: {accepted} accepted, {relabeled} relabeled, {rejected} "
            "rejected, {not_used} not looked at".format(**plan.counts)
        )
    material: Material = yield from prepare(plan.data, learning, cancel)
    if (material.data.box, material.data.mode) != (info.box, info.normalization.mode):
        raise DataError(
            f"the model takes {info.box} voxels, normalized by "
            f"{info.normalization.mode}, the examples have {material.data.box}, by "
            f"{material.data.mode}; name the data that it was trained on (--data)"
        )
    is_warm = not config.from_scratch and material.classes == info.classes
    if not is_warm and not config.from_scratch:
        yield Noted(
            text=f"the model knew {', '.join(info.classes)}; with "
            f"{', '.join(material.classes)} it begins anew"
        )
    if is_warm:
        rate = learning.learning_rate or find_model(info.model).learning_rate
        per_epoch = max(len(material.split.training) // learning.batch_size, 1)
        learning = learning.model_copy(
            update={
                "learning_rate": RATE * rate,
                "epochs": learning.epochs or max(5, -(-STEPS // per_epoch)),
            }
        )
    learner = Learner.create(info.model, material, learning, trained_by="refine")
    if is_warm:
        learner.model.load_state_dict(network.state_dict())
    learner.info = learner.info.model_copy(
        update={"diameters": info.diameters, "license": info.license}
    )
    yield from learner.learn(
        Lesson(material, HardLabels(learning.label_smoothing)),
        learning,
        run,
        cancel=cancel,
        is_resumed=is_resumed,
    )
    yield Finished(result=learner.result | plan.counts)


_TRAINING = set(TrainConfig.model_fields)


def _kept(model: Path) -> dict[str, Any]:
    """Return the settings of a model's run; none if there is only a checkpoint."""
    run = Run(model if model.is_dir() else model.parent)
    return run.config() if run.config_path.exists() else {}


def _checked(kind: Any, values: Any, model: Path) -> Any:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise FormatError(
            f"{model}: settings that this version cannot read ({first['loc']}: "
            f"{first['msg']}); name the data (--data)"
        ) from error
