"""The smallest student that is still right: the family tried, with its settings.

The tuner is optuna. Its journal and a run folder for each trial lie in the search's
folder, so that a search that was stopped goes on where it was.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from napari_ectkd.dataset.sources import load_dataset
from napari_ectkd.distillation.distill import distill
from napari_ectkd.distillation.front import (
    mark_front,
    recommended,
    trial_run,
    use_trial,
    with_times_of,
    write_front,
)
from napari_ectkd.distillation.lessons import SOFT_LABELS, SOFT_LABELS_OF_ALL
from napari_ectkd.distillation.soft_labels import load_teacher
from napari_ectkd.errors import ConfigError, EctkdError
from napari_ectkd.events import (
    Cancelled,
    CancelledError,
    EpochEnd,
    Failed,
    Finished,
    Noted,
    Progress,
    Saved,
)
from napari_ectkd.models.checkpoint import load_checkpoint
from napari_ectkd.models.cost import time_models
from napari_ectkd.models.registry import find_model, model_names
from napari_ectkd.runs import Run, members_of
from napari_ectkd.training.workers import choose_worker_device

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from napari_ectkd.dataset.config import DataConfig
    from napari_ectkd.distillation.config import DistillConfig, SearchConfig
    from napari_ectkd.events import Cancel, Event

PAPER = ("student1", "student2", "student3")
"""Left out: their first block at full resolution makes them slow at any accuracy."""


def family(box_px: int) -> list[str]:
    """Return the names of our students that take a box of so many voxels."""
    names = [name for name in model_names("student") if name not in PAPER]
    return [name for name in names if find_model(name).min_box <= box_px]


def search(
    teachers: Sequence[Path],
    data_config: DataConfig,
    config: DistillConfig,
    how: SearchConfig,
    run: Run,
    *,
    cancel: Cancel,
) -> Iterator[Event]:
    """Distill many students; make the fastest that is still right the run's model.

    Each network is tried with the settings of `config` first; what comes after is
    chosen by optuna for accuracy and few multiply-accumulates at once. Trials that are
    there already, of a search that was stopped, are not done again.

    Parameters
    ----------
    teachers, data_config, config, run, cancel
        As `distill`; the student of `config` does not matter.
    how
        How many trials.

    Raises
    ------
    ConfigError
        If optuna is missing.
    EctkdError
        As `distill`; also if validation is switched off.
    """
    if not find_spec("optuna"):
        raise ConfigError(
            "a search needs optuna: install the extra (pip install "
            "'napari-ectkd[search]')"
        )
    if not config.validation_fraction:
        raise ConfigError(
            "a search compares students on the validation part; give it one "
            "(--validation-fraction)"
        )
    choose_worker_device(config.device)
    for path in teachers:
        load_teacher(path)
    return _search(teachers, data_config, config, how, run, cancel)


def _search(
    teachers: Sequence[Path],
    data_config: DataConfig,
    config: DistillConfig,
    how: SearchConfig,
    run: Run,
    cancel: Cancel,
) -> Generator[Event, None, None]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    data = yield from load_dataset(data_config, cancel=cancel)
    names = family(data.box)
    if not names:
        raise ConfigError(f"none of our students takes a box of {data.box} voxels")
    yield Noted(text=f"searching among {', '.join(names)}")
    study = _study(run, config, names)
    space = _space(config, names)
    rows: list[dict[str, Any]] = []
    for number in range(1, how.trials + 1):
        trial = trial_run(run, number)
        result = _result_of(trial)
        if result is None:
            cancel.check()
            if trial.config_path.exists():  # begun before: by the settings it had
                asked = int(trial.config()["asked"])
                settings = config.model_validate(trial.config()["config"])
            else:
                new = study.ask(space)
                asked, settings = new.number, _settings(config, new.params)
            try:
                result = yield from _try(
                    *(teachers, data_config, settings, trial),
                    *(number, how.trials, asked, cancel),
                )
            except EctkdError as error:
                if not rows:
                    raise  # it would stop the others too
                failed = optuna.trial.TrialState.FAIL
                study.tell(asked, state=failed, skip_if_finished=True)
                yield Noted(text=f"trial {number}: {error}", is_warning=True)
                continue
        study.tell(
            int(trial.config()["asked"]),
            [result["val_accuracy"], result["macs"]],
            skip_if_finished=True,
        )
        rows.append(_row(number, trial, result))
        mark_front(rows)
        write_front(run, rows)
        yield Saved(what="front", path=str(run.path))
    yield from _measure(teachers, run, rows, data.box, config)
    write_front(run, rows)
    chosen = recommended(rows)
    rows = use_trial(run, chosen["trial"])
    yield Saved(what="front", path=str(run.path))
    yield Saved(what="model", path=str(run.best_path))
    result = _result_of(trial_run(run, chosen["trial"]))
    if result is None:
        raise RuntimeError(f"the log of trial {chosen['trial']} has lost its end")
    total = sum(row["seconds"] for row in rows)
    yield Finished(
        result=with_times_of(chosen, result) | {"front": rows, "seconds": total}
    )


def _study(run: Run, config: DistillConfig, names: Sequence[str]) -> Any:
    """Return optuna's study of this search, as it was left."""
    import warnings

    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(run.search_path))),
            study_name="search",
            directions=["maximize", "minimize"],
            load_if_exists=True,
        )
        n = len(study.trials)
        study.sampler = optuna.samplers.TPESampler(seed=config.seed + n)
    # A trial that was under way has a folder, unless the search was killed before.
    known = {
        Run(f.parent).config()["asked"] for f in run.path.glob("trial-*/config.json")
    }
    for left in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        if left.number not in known:
            study.tell(left.number, state=optuna.trial.TrialState.FAIL)
            study.enqueue_trial(left.params)
    if not n:
        for name in names:
            study.enqueue_trial(
                {
                    "model": name,
                    "rate": 1.0,
                    "temperature": config.temperature,
                    "soft_weight": config.soft_weight,
                }
            )
    return study


def _space(config: DistillConfig, names: Sequence[str]) -> dict[str, Any]:
    """Return what is varied; the settings that the user gave are in the ranges."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    return {
        "model": CategoricalDistribution(list(names)),
        "rate": FloatDistribution(0.3, 3.0, log=True),
        "temperature": FloatDistribution(1.0, max(8.0, config.temperature), log=True),
        "soft_weight": FloatDistribution(min(0.3, config.soft_weight), 1.0),
    }


def _settings(config: DistillConfig, params: dict[str, Any]) -> DistillConfig:
    usual = config.learning_rate or find_model(params["model"]).learning_rate
    return config.model_copy(
        update={
            "model": params["model"],
            "baseline": False,
            "refit": bool(config.refit),  # twice the time: only if asked for
            "learning_rate": min(usual * params["rate"], 1.0),
            "temperature": params["temperature"],
            "soft_weight": params["soft_weight"],
        }
    )


def _try(
    teachers: Sequence[Path],
    data_config: DataConfig,
    config: DistillConfig,
    trial: Run,
    number: int,
    n: int,
    asked: int,
    cancel: Cancel,
) -> Generator[Event, None, dict[str, Any]]:
    """Distill one student in a run of its own; return its result."""
    is_resumed = trial.config_path.exists() and trial.can_resume()
    if not is_resumed:
        trial.create(
            {
                "kind": "distill",
                "data": data_config.model_dump(mode="json"),
                "config": config.model_dump(mode="json"),
                "teachers": [str(path) for path in teachers],
                "asked": asked,  # the tuner's number of it
            }
        )
        _share_soft_labels(trial)
    trial.begin()
    of = f"student {number} of {n}, {config.model}"
    try:
        stream = distill(
            teachers, data_config, config, trial, cancel=cancel, is_resumed=is_resumed
        )
        for event in stream:
            trial.log(event)
            if isinstance(event, Finished):
                return event.result
            if isinstance(event, EpochEnd):
                yield Progress(
                    stage=of,
                    done=event.epoch,
                    total=event.epochs,
                    seconds_left=event.seconds_left,
                )
            elif isinstance(event, Progress):
                if not event.stage.startswith(("epoch", "validate")):
                    yield event.model_copy(update={"stage": f"{of}: {event.stage}"})
            elif isinstance(event, Noted) and number == 1:
                yield event  # the others would say the same
    except CancelledError:
        trial.log(Cancelled())
        raise
    except EctkdError as error:
        trial.log(Failed(message=str(error)))
        raise
    raise RuntimeError("a trial stopped without saying that it finished")


def _share_soft_labels(trial: Run) -> None:
    """Give a trial what the teachers told an earlier one, who asked the same."""
    for asked in sorted(trial.path.parent.glob(f"trial-*/{SOFT_LABELS}")):
        for name in (SOFT_LABELS, SOFT_LABELS_OF_ALL):
            if asked.with_name(name).exists():
                shutil.copyfile(asked.with_name(name), trial.path / name)
        return


def _result_of(trial: Run) -> dict[str, Any] | None:
    last = None
    for event in trial.events():
        last = event
    return last.result if isinstance(last, Finished) else None


def _row(number: int, trial: Run, result: dict[str, Any]) -> dict[str, Any]:
    student = result["comparison"][-1]
    teachers = [e for e in result["comparison"] if e["role"] == "teacher"]
    asked = sum(teacher["ms_per_subtomogram"] for teacher in teachers)
    settings = trial.config()["config"]
    return {
        "trial": number,
        "model": result["model"],
        "seconds": result["seconds"],
        "speed": asked / student["ms_per_subtomogram"],
        "is_used": False,
        **{
            key: student[key]
            for key in (
                *("val_accuracy", "calibration_error", "ms_per_subtomogram"),
                *("parameters", "macs", "size_bytes"),
            )
        },
        **{key: settings[key] for key in ("temperature", "soft_weight")},
        "learning_rate": settings["learning_rate"],
    }


def _measure(
    teachers: Sequence[Path],
    run: Run,
    rows: list[dict[str, Any]],
    box_px: int,
    config: DistillConfig,
) -> Generator[Event, None, None]:
    """Time each network once more, all in turns: trials were timed hours apart."""
    yield Progress(stage="time", done=0, total=1)
    first: dict[str, int] = {}
    for row in rows:
        first.setdefault(row["model"], row["trial"])
    asked = [member for path in teachers for member in members_of(path)]
    students = [trial_run(run, n).path for n in first.values()]
    models = [load_checkpoint(path)[0] for path in (*asked, *students)]
    times = time_models(models, box_px, choose_worker_device(config.device))
    by_name = dict(zip(first, times[len(asked) :], strict=True))
    for row in rows:
        row["ms_per_subtomogram"] = by_name[row["model"]]
        row["speed"] = sum(times[: len(asked)]) / row["ms_per_subtomogram"]
    mark_front(rows)
