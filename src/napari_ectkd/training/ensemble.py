"""Several networks from several seeds in one run: a teacher better than each of them.

The members learn one after the other from the same part of the data and are validated
on the same rest. What they think is averaged, and over the rotations that keep the
missing wedge too.
"""

from __future__ import annotations

import shutil
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import torch

from napari_ectkd.dataset.augment import wedge_rotations
from napari_ectkd.devices.precision import choose_precision
from napari_ectkd.events import EpochEnd, Finished, Noted, Progress, Saved
from napari_ectkd.io.atomic import atomic_path
from napari_ectkd.models.inference import infer_logits, to_device
from napari_ectkd.training.card import write_ensemble_card
from napari_ectkd.training.learner import Learner
from napari_ectkd.training.lesson import Lesson
from napari_ectkd.training.loop import n_epochs, score_logits
from napari_ectkd.training.objective import HardLabels
from napari_ectkd.training.refit import is_wanted
from napari_ectkd.training.train import check_settings, default_model, prepare
from napari_ectkd.training.train import train as train_one
from napari_ectkd.training.workers import (
    Workers,
    choose_worker_device,
    rank_from_environment,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from napari_ectkd.dataset.config import DataConfig
    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.runs import Run
    from napari_ectkd.training.batches import Material
    from napari_ectkd.training.config import EnsembleConfig, TrainConfig


def train(
    data_config: DataConfig,
    config: EnsembleConfig,
    run: Run,
    *,
    cancel: Cancel,
    is_resumed: bool = False,
) -> Iterator[Event]:
    """Train one model, or the members of an ensemble, into a run.

    Each member has a run folder of its own in the run's. The run's own model is that of
    the best member, for use alone; a distillation asks them all.

    Parameters
    ----------
    data_config, config, run, cancel, is_resumed
        As `train.train`.

    Raises
    ------
    EctkdError
        If a setting cannot work; from the first event on also if the data is broken.
    """
    if config.members == 1:
        return train_one(data_config, config, run, cancel=cancel, is_resumed=is_resumed)
    check_settings(config)
    if is_resumed:
        run.check_resumable()
    return _train(data_config, config, run, cancel)


def _train(
    data_config: DataConfig, config: EnsembleConfig, run: Run, cancel: Cancel
) -> Generator[Event, None, None]:
    alone = config.model_copy(update={"members": 1})
    material = yield from prepare(data_config, alone, cancel)
    name = config.model or default_model(material)
    result = yield from learn_together(
        name,
        Lesson(material, HardLabels(config.label_smoothing)),
        member_configs(alone, config.members),
        run,
        trained_by="train",
        cancel=cancel,
    )
    yield Finished(result=result)


def member_configs(config: TrainConfig, members: int) -> list[TrainConfig]:
    """Return the settings of each member: other seeds, the same split."""
    split_seed = config.seed if config.split_seed is None else config.split_seed
    return [
        config.model_copy(update={"seed": config.seed + n, "split_seed": split_seed})
        for n in range(members)
    ]


def learn_together(
    name: str,
    lesson: Lesson,
    configs: Sequence[TrainConfig],
    run: Run,
    *,
    trained_by: Literal["train", "distill"],
    cancel: Cancel,
    facts: Mapping[str, Any] = MappingProxyType({}),
    seconds: float = 0.0,
) -> Generator[Event, None, dict[str, Any]]:
    """Let the members of an ensemble learn, unless they are there; return the result.

    Parameters
    ----------
    name
        Of their network.
    lesson
        What they learn.
    configs
        How each learns.
    run
        In whose folder each has one of its own.
    trained_by
        What is said of them.
    cancel
        Looked at once per batch.
    facts
        More for the result and the card.
    seconds
        That went into the lesson before: into its teachers.
    """
    members = len(configs)
    material = lesson.material
    workers = Workers.join(choose_worker_device(configs[0].device))
    opinions: list[torch.Tensor] = []
    results: list[dict[str, Any]] = []
    for number, config in enumerate(configs, start=1):
        member = run.member(number)
        of = f"member {number} of {members}"
        learner = Learner.create(name, material, config, trained_by=trained_by)
        result = workers.first_s(member.kept_result())
        if result is None:
            yield Noted(text=f"{of}, seed {config.seed}")
            stream = learner.learn(
                lesson,
                config,
                member,
                cancel=cancel,
                is_resumed=workers.first_s(member.resume_path.exists()),
            )
            again = n_epochs(material, config) * is_wanted(material, config)
            yield from _told(stream, number, members, again)
            result = learner.result
            if rank_from_environment() == 0:
                member.keep_result(result)
        else:
            yield Noted(text=f"{of} is there already")
            learner.load(member)
        results.append(result)
        opinions.append((yield from _ask(learner, material, config, cancel)))
    return (
        yield from _conclude(
            run, results, torch.stack(opinions), material, seconds, facts
        )
    )


def _conclude(
    run: Run,
    results: Sequence[dict[str, Any]],
    said: torch.Tensor,
    material: Material,
    seconds: float,
    facts: Mapping[str, Any],
) -> Generator[Event, None, dict[str, Any]]:
    """Make the best member's model the run's, and say what all are together.

    Parameters
    ----------
    run
        With its members in it.
    results
        Of the members, in order.
    said
        `(members, n, k)` their logits of the validation part, over the rotations that
        keep the missing wedge.
    material
        What they were validated on.
    seconds
        That went into their lesson before.
    facts
        More for the result and the card.

    Returns
    -------
    dict
        The result of the run: that of the best member, and what they are together.
    """
    best = min(range(len(results)), key=lambda i: results[i].get("val_loss", 0.0))
    if rank_from_environment() == 0:
        with atomic_path(run.best_path) as temporary:
            shutil.copyfile(run.member(best + 1).best_path, temporary)
    result = results[best] | {
        "members": len(results),
        "best_member": best + 1,
        "seconds": seconds + sum(each["seconds"] for each in results),
        **facts,
    }
    index = material.split.validation
    if len(index):
        metrics, report = score_logits(
            said.mean(dim=0), material.targets[index], material.classes
        )
        result |= metrics | {
            "report": report.as_dict(),
            "member_val_accuracy": [each["val_accuracy"] for each in results],
        }
        alone = ", ".join(f"{each['val_accuracy']:.1%}" for each in results)
        yield Noted(
            text=f"together right on {metrics['val_accuracy']:.1%} of the validation "
            f"part, alone {alone}"
        )
    if rank_from_environment() == 0:
        write_ensemble_card(run, result)
        yield Saved(what="model card", path=str(run.card_path))
    return result


def _told(
    stream: Iterator[Event], number: int, members: int, again: int
) -> Iterator[Event]:
    """Yield the events of one member as a part of the whole."""
    of = f"member {number} of {members}"
    for event in stream:
        if isinstance(event, EpochEnd):
            yield _of_the_whole(event, number, members, again)
        elif isinstance(event, Progress):
            yield event.model_copy(update={"stage": f"{of}: {event.stage}"})
        elif isinstance(event, Noted) and event.is_warning:
            yield event.model_copy(update={"text": f"{of}: {event.text}"})
        else:
            yield event


def _of_the_whole(event: EpochEnd, number: int, members: int, again: int) -> EpochEnd:
    """Return an epoch of one member, from 1, counted through all of them.

    `again` are the epochs that each then learns once more from all labels.
    """
    left = event.seconds_left
    if number < members and left is not None:
        # The others take as long; at the end of this one nothing tells the pace.
        n_left = event.epochs - event.epoch + again
        others = (members - number) * (event.epochs + again)
        left = left * (1 + others / n_left) if n_left else None
    return event.model_copy(
        update={
            "epoch": (number - 1) * event.epochs + event.epoch,
            "epochs": members * event.epochs,
            "seconds_left": left,
            "member": number,
        }
    )


def _ask(
    learner: Learner, material: Material, config: TrainConfig, cancel: Cancel
) -> Generator[Event, None, torch.Tensor]:
    """Return a member's logits of the validation part, over the wedge's rotations."""
    device = choose_worker_device(config.device)
    return (
        yield from infer_logits(
            to_device(learner.model, device),
            material.data.read,
            material.split.validation,
            device=device,
            dtype=choose_precision(device, config.precision),
            batch_size=config.batch_size,
            cancel=cancel,
            views=wedge_rotations(material.data.tilt_range),
            stage="ask a member",
        )
    )
