"""Teachers in generations: each learns what the one before it thinks, of more.

The first generation, one network or an ensemble, learns from the labels. Each later
one is a small ensemble that learns, by distillation, what the one before it thinks of
all subtomograms, those without a label too, and is asked over the rotations that keep
the missing wedge: a noisy student that becomes the next teacher (Xie, Luong, Hovy, Le
2020, arXiv:1911.04252; born-again networks, Furlanello et al. 2018, arXiv:1805.04770).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_ectkd.distillation.config import DistillConfig
from napari_ectkd.distillation.lessons import prepare_lesson, with_unlabeled
from napari_ectkd.distillation.soft_labels import load_teacher
from napari_ectkd.distillation.ways import HOW, MEMBERS, NETWORKS
from napari_ectkd.errors import ConfigError
from napari_ectkd.events import EpochEnd, Finished, Noted, Progress
from napari_ectkd.models.registry import first_that_takes
from napari_ectkd.runs import members_of
from napari_ectkd.training import ensemble
from napari_ectkd.training.config import EnsembleConfig, TrainConfig
from napari_ectkd.training.ensemble import learn_together, member_configs
from napari_ectkd.training.lesson import Lesson
from napari_ectkd.training.loop import n_epochs
from napari_ectkd.training.objective import HardLabels
from napari_ectkd.training.refit import is_wanted
from napari_ectkd.training.train import check_settings, default_model, prepare
from napari_ectkd.training.workers import Workers, choose_worker_device

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from napari_ectkd.dataset.config import DataConfig
    from napari_ectkd.distillation.config import GenerationConfig
    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.runs import Run
    from napari_ectkd.training.batches import Material

_TEACHER = "teacher_val_accuracy"


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
    labeled = yield from prepare(data_config, config, cancel)
    material = yield from with_unlabeled(labeled, config.unlabeled, data_config, cancel)
    name = config.model or default_model(labeled)
    lesson = Lesson(labeled, HardLabels(config.label_smoothing))
    on_labels = TrainConfig.model_validate(_part(config, TrainConfig))
    later = _later_config(config, labeled.data.box)
    n_later = MEMBERS * (config.generations - 1) * n_epochs(material, later)
    whole = _Whole(config.generations, n_later)
    homes = [*(run.generation(n) for n in range(1, config.generations)), run]
    results: list[dict[str, Any]] = []
    for number, home in enumerate(homes, start=1):
        configs = member_configs(on_labels, config.members)
        if number > 1:
            teacher = homes[number - 2].path
            name = str(later.model)
            yield Noted(
                text=f"generation {number} of {config.generations}: {MEMBERS} × {name} "
                f"learn what generation {number - 1} thinks"
            )
            lesson = yield from whole.told(
                prepare_lesson(
                    [load_teacher(member) for member in members_of(teacher)],
                    material,
                    later,
                    home.path,
                    cancel,
                )
            )
            configs = member_configs(later, MEMBERS)
        whole.begin(number, configs, lesson.material)
        result = yield from whole.told(
            learn_together(
                name,
                lesson,
                configs,
                home,
                trained_by="train" if number == 1 else "distill",
                cancel=cancel,
                facts={
                    "generation": number,
                    "n_unlabeled": lesson.material.n_unlabeled,
                },
                seconds=results[-1]["seconds"] if results else 0.0,
            )
        )
        results.append(result)
        # The others must not load what the first process has not saved yet.
        Workers.join(choose_worker_device(config.device)).wait()
    if "val_accuracy" in result:
        yield _compared(results[0], result)
    yield Finished(result=result)


def _compared(first: dict[str, Any], last: dict[str, Any]) -> Noted:
    """Say what the generations were worth: what each is right on together."""
    text = (
        f"of the validation part generation 1 is right on {first['val_accuracy']:.1%}, "
        f"generation {last['generation']} on {last['val_accuracy']:.1%}"
    )
    if last["val_accuracy"] >= first["val_accuracy"]:
        return Noted(text=text)
    return Noted(
        text=f"{text}: the first may be the better teacher. To distill from it, name "
        "the folder generation-1 of this run as teacher (Browse… in Distill, or "
        "--teacher); more labels would help",
        is_warning=True,
    )


def _later_config(config: GenerationConfig, box_px: int) -> DistillConfig:
    """Return the settings of the later generations."""
    changed = {
        "model": first_that_takes(NETWORKS, box_px),
        "learning_rate": None,
        "unlabeled": config.unlabeled,
    }
    return DistillConfig.model_validate(_part(config, TrainConfig) | HOW | changed)


def _part(config: TrainConfig, kind: type[TrainConfig]) -> dict[str, Any]:
    """Return those of a config's settings that another kind has too."""
    return {key: getattr(config, key) for key in kind.model_fields}


class _Whole:
    """Tells the events of each generation as those of all.

    Parameters
    ----------
    generations
        How many there are.
    n_later
        About how many epochs come after the first.
    """

    def __init__(self, generations: int, n_later: int) -> None:
        self._n = generations
        self._n_later = n_later
        self._number = 1
        self._members = 0
        self._epochs = self._again = 0
        self._networks_before = self._epochs_before = 0

    def begin(
        self, number: int, configs: list[TrainConfig], material: Material
    ) -> None:
        """Begin with a generation whose members learn from a material."""
        self._networks_before += self._members
        self._epochs_before += self._members * self._epochs
        self._number, self._members = number, len(configs)
        self._epochs = n_epochs(material, configs[0])
        self._again = self._epochs * is_wanted(material, configs[0])

    def told(self, stream: Generator[Event, None, Any]) -> Generator[Event, None, Any]:
        """Yield the events of a part of the work; return its value."""
        where = f"generation {self._number} of {self._n}, "
        while True:
            try:
                event = next(stream)
            except StopIteration as end:
                return end.value
            if isinstance(event, EpochEnd):
                event = self._counted(event)
            elif isinstance(event, Progress):
                # How long later generations take, nobody knows in the first.
                left = event.seconds_left if self._number > 1 else None
                stage = f"{where}{event.stage}"
                event = event.model_copy(update={"stage": stage, "seconds_left": left})
            elif isinstance(event, Noted) and event.is_warning:
                event = event.model_copy(update={"text": f"{where}{event.text}"})
            yield event

    def _counted(self, event: EpochEnd) -> EpochEnd:
        """Return an epoch of this generation's members as one of all networks."""
        later = 0
        left = None
        epochs_later = self._n_later
        if self._number > 1:
            later = (self._n - self._number) * self._members
            epochs_later = later * self._epochs
            n_left = event.epochs - event.epoch
            n_left += self._again * (self._members - event.member + 1)
            if event.seconds_left is not None and (n_left or not later):
                pace = event.seconds_left / max(n_left, 1)
                left = event.seconds_left + later * (self._epochs + self._again) * pace
        return event.model_copy(
            update={
                "epoch": self._epochs_before + event.epoch,
                "epochs": self._epochs_before + event.epochs + epochs_later,
                # A teacher is another one in each generation, and no line to reach.
                "metrics": {k: v for k, v in event.metrics.items() if k != _TEACHER},
                "seconds_left": left,
                "member": self._networks_before + event.member,
            }
        )
