"""Teachers in generations: each learns what the one before it thinks, of more.

The first generation, one network or an ensemble, learns from the labels. Each later
one is a small ensemble that learns, by distillation, what the one before it thinks of
all subtomograms, those without a label too, and is asked over the rotations that keep
the missing wedge: a noisy student that becomes the next teacher (Xie, Luong, Hovy, Le
2020, arXiv:1911.04252; born-again networks, Furlanello et al. 2018, arXiv:1805.04770).
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import torch

from napari_ectkd.distillation.config import DistillConfig
from napari_ectkd.distillation.distill import distill
from napari_ectkd.distillation.soft_labels import ask_teachers, load_teacher
from napari_ectkd.errors import ConfigError
from napari_ectkd.events import EpochEnd, Finished, Noted, Progress, Saved
from napari_ectkd.models.registry import find_model
from napari_ectkd.training import ensemble
from napari_ectkd.training.config import EnsembleConfig, TrainConfig
from napari_ectkd.training.train import check_settings, prepare
from napari_ectkd.training.workers import (
    Workers,
    choose_worker_device,
    rank_from_environment,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from napari_ectkd.dataset.config import DataConfig
    from napari_ectkd.distillation.config import GenerationConfig
    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.runs import Run

MEMBERS = 2
"""Networks of each later generation; the second is worth 0.2 points."""
NETWORKS = ("compact_wide", "residual_small")
"""Of the later generations: the first of these that takes the box."""
HOW: dict[str, Any] = {
    "temperature": 1.0,
    "sharpen": 3.0,
    "surest_share": 0.9,
    "class_offsets": True,
}
"""The ways of `DistillConfig` in which a student passes its teacher."""
_OF_A_STUDENT = ("comparison", "agreement", "teacher_val_accuracy")
"""What a distillation reports beside a model's own figures."""


def train(
    data_config: DataConfig,
    config: GenerationConfig,
    run: Run,
    *,
    cancel: Cancel,
    is_resumed: bool = False,
) -> Iterator[Event]:
    """Train a teacher: on labels alone, or in generations with unlabeled ones.

    The members of the last generation are the members of the run; the earlier
    generations have run folders of their own in it.

    Parameters
    ----------
    data_config, config, run, cancel, is_resumed
        As `training.ensemble.train`; what is unlabeled is named by the config.

    Raises
    ------
    EctkdError
        If a setting cannot work; from the first event on also if the data is broken.
    """
    if not config.unlabeled:
        alone = EnsembleConfig.model_validate(_part(config, EnsembleConfig))
        return ensemble.train(
            data_config, alone, run, cancel=cancel, is_resumed=is_resumed
        )
    if data_config.stream:
        raise ConfigError(
            "with a stream of simulations every subtomogram has a label; leave the "
            "unlabeled ones out (--unlabeled)"
        )
    check_settings(config)
    if is_resumed:
        run.check_resumable()
    return _train(data_config, config, run, cancel)


def _train(
    data_config: DataConfig, config: GenerationConfig, run: Run, cancel: Cancel
) -> Generator[Event, None, None]:
    parts = _Parts(config)
    material = yield from parts.told(prepare(data_config, config, cancel))
    results = [(yield from _first(data_config, config, run, cancel, parts))]
    teacher = run.generation(1)
    name = next(
        (n for n in NETWORKS if find_model(n).min_box <= material.data.box),
        NETWORKS[-1],
    )
    for generation in range(2, config.generations + 1):
        is_last = generation == config.generations
        home = run if is_last else run.generation(generation)
        for member in range(1, MEMBERS + 1):
            yield from parts.begin(generation, member, name)
            settings = _settings(config, name, member)
            yield from parts.told(
                _distill(teacher, data_config, settings, home, member, cancel)
            )
            results.append(parts.result)
        teacher = home
        # The others must not load what the first process has not saved yet.
        Workers.join(choose_worker_device(config.device)).first_s(None)
    last = results[-MEMBERS:]
    said = torch.empty(MEMBERS, 0, len(material.classes))
    if len(material.split.validation):
        judged = [load_teacher(m.path).as_judged() for m in run.members()]
        index, classes = material.split.validation, material.classes
        said = yield from ask_teachers(
            judged, material.data, index, classes, config, cancel
        )
    of_all = {
        "generation": config.generations,
        "seconds": sum(each["seconds"] for each in results),
    }
    result = yield from ensemble.conclude(run, last, said, material, of_all)
    if "val_accuracy" in result:
        yield _compared(results[0], result)
    yield Finished(result=result)


def _compared(first: dict[str, Any], last: dict[str, Any]) -> Noted:
    """Say what the generations were worth."""
    text = (
        f"of the validation part generation 1 is right on {first['val_accuracy']:.1%}, "
        f"generation {last['generation']} on {last['val_accuracy']:.1%}"
    )
    if last["val_accuracy"] >= first["val_accuracy"]:
        return Noted(text=text)
    return Noted(
        text=f"{text}: the first may be the better teacher; its run is the folder "
        "generation-1 in this one. More labels would help",
        is_warning=True,
    )


def _first(
    data_config: DataConfig,
    config: GenerationConfig,
    run: Run,
    cancel: Cancel,
    parts: _Parts,
) -> Generator[Event, None, dict[str, Any]]:
    """Train the generation that learns from labels, unless it is there."""
    first = run.generation(1)
    kept = first.kept_result()
    if kept is None:
        on_labels = EnsembleConfig.model_validate(_part(config, EnsembleConfig))
        yield from parts.told(
            ensemble.train(
                data_config,
                on_labels,
                first,
                cancel=cancel,
                is_resumed=first.resume_path.exists(),
            )
        )
        kept = parts.result | {"epochs_in_all": parts.n_epochs}
        if rank_from_environment() == 0:
            first.keep_result(kept)
        Workers.join(choose_worker_device(config.device)).first_s(None)
    parts.n_before = kept["epochs_in_all"]
    return kept


def _distill(
    teacher: Run,
    data_config: DataConfig,
    config: DistillConfig,
    home: Run,
    member: int,
    cancel: Cancel,
) -> Iterator[Event]:
    """Distill one member of a later generation, unless it is there."""
    mine = home.member(member)
    kept = mine.kept_result()
    if kept is not None:
        yield Finished(result=kept)
        return
    is_resumed = mine.can_resume()
    if rank_from_environment() == 0 and not is_resumed:
        # One that was stopped between its last epoch and its result begins anew.
        shutil.rmtree(mine.path, ignore_errors=True)
        mine.create(
            {
                "kind": "distill",
                "data": data_config.model_dump(mode="json"),
                "config": config.model_dump(mode="json"),
                "teachers": [str(teacher.path)],
            }
        )
        asked = home.member(1).path / "soft_labels.safetensors"
        if member > 1 and asked.exists():  # they asked the same
            shutil.copyfile(asked, mine.path / asked.name)
    stream = distill(
        [teacher.path],
        data_config,
        config,
        mine,
        cancel=cancel,
        is_resumed=is_resumed,
    )
    for event in stream:
        if isinstance(event, Finished):
            result = {k: v for k, v in event.result.items() if k not in _OF_A_STUDENT}
            if rank_from_environment() == 0:
                mine.keep_result(result)
            yield Finished(result=result)
        else:
            yield event


def _settings(config: GenerationConfig, name: str, member: int) -> DistillConfig:
    """Return the settings of a member of a later generation, from 1."""
    is_split_alike = config.split_seed is not None
    return DistillConfig.model_validate(
        _part(config, TrainConfig)
        | HOW
        | {
            "model": name,
            "learning_rate": None,  # what was given is the first network's
            "seed": config.seed + member - 1,
            "split_seed": config.split_seed if is_split_alike else config.seed,
            "unlabeled": config.unlabeled,
        }
    )


def _part(config: TrainConfig, kind: type[TrainConfig]) -> dict[str, Any]:
    """Return those of a config's settings that another kind has too."""
    return {key: getattr(config, key) for key in kind.model_fields}


class _Parts:
    """The events of each part of the work, told as those of the whole.

    Attributes
    ----------
    n_before
        Epochs of the first generation, once it is over.
    n_epochs
        Epochs that were told so far.
    result
        Of the part that was told last.
    """

    def __init__(self, config: GenerationConfig) -> None:
        self.n_before = self.n_epochs = 0
        self.result: dict[str, Any] = {}
        self._config = config
        self._generation, self._member = 1, 0
        self._notes: set[str] = set()

    def begin(self, generation: int, member: int, name: str) -> Iterator[Event]:
        """Begin with a member, a network of this name, of a later generation."""
        self._generation, self._member = generation, member
        if member == 1:
            yield Noted(
                text=f"generation {generation} of {self._config.generations}: "
                f"{MEMBERS} × {name}, which learn what the one before it thinks"
            )

    def told(self, stream: Iterator[Event]) -> Generator[Event, None, Any]:
        """Yield a part's events, what was noted before not again; return its value."""
        while True:
            try:
                event = next(stream)
            except StopIteration as end:
                return end.value
            if isinstance(event, EpochEnd):
                event = self._counted(event)
                self.n_epochs = event.epoch
                yield event
            elif isinstance(event, Progress):
                stage = f"{self._where(event.stage)}{event.stage}"
                # How long later generations take, nobody knows yet.
                left = event.seconds_left if self._member else None
                yield event.model_copy(update={"stage": stage, "seconds_left": left})
            elif isinstance(event, Noted):
                if event.text not in self._notes:
                    yield self._placed(event)
                self._notes.add(event.text)
            elif isinstance(event, Finished):
                self.result = event.result
            elif isinstance(event, Saved) and event.what == "examples":
                yield event

    def _counted(self, event: EpochEnd) -> EpochEnd:
        if not self._member:
            return event.model_copy(update={"seconds_left": None})
        n = MEMBERS * (self._config.generations - 1)
        number = MEMBERS * (self._generation - 2) + self._member
        event = ensemble.of_the_whole(event, number, n)
        return event.model_copy(
            update={
                "epoch": self.n_before + event.epoch,
                "epochs": self.n_before + event.epochs,
                "member": self._config.members + number,
            }
        )

    def _placed(self, event: Noted) -> Noted:
        """Return a warning of a later generation with where it is from."""
        if not (event.is_warning and self._member):
            return event
        return event.model_copy(update={"text": f"{self._where('')}{event.text}"})

    def _where(self, stage: str) -> str:
        where = f"generation {self._generation} of {self._config.generations}"
        if self._member:
            return f"{where}, member {self._member} of {MEMBERS}: "
        return f"{where}, " if stage.startswith("member") else f"{where}: "
