"""A model on its way from random weights to a run's result."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from napari_ectkd.devices.precision import choose_precision
from napari_ectkd.evaluation.calibration import calibrate, in_words
from napari_ectkd.events import Noted, Saved
from napari_ectkd.io.atomic import atomic_path
from napari_ectkd.io.class_colors import colors_of
from napari_ectkd.models.checkpoint import (
    CheckpointInfo,
    Normalization,
    load_checkpoint,
    save_checkpoint,
)
from napari_ectkd.models.cost import count_macs, count_parameters
from napari_ectkd.models.inference import to_device
from napari_ectkd.models.registry import build_model, check_box
from napari_ectkd.training import refit
from napari_ectkd.training.card import make_card, write_card
from napari_ectkd.training.loop import fit, recalls, score_logits, validation_logits
from napari_ectkd.training.provenance import environment, repeatability
from napari_ectkd.training.resume import seed_epoch
from napari_ectkd.training.workers import (
    Workers,
    choose_worker_device,
    rank_from_environment,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from torch import nn

    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.runs import Run
    from napari_ectkd.training.batches import Material
    from napari_ectkd.training.config import TrainConfig
    from napari_ectkd.training.lesson import Lesson


@dataclass
class Learner:
    """A model on its way from random weights to a run's result."""

    name: str
    model: nn.Module
    info: CheckpointInfo
    result: dict[str, Any]

    @classmethod
    def create(
        cls, name: str, material: Material, config: TrainConfig, *, trained_by: str
    ) -> Learner:
        """Return a learner with the weights that the seed gives.

        Raises
        ------
        ConfigError
            If the network cannot take the box.
        """
        data = material.data
        check_box(name, data.box)
        seed_epoch(config.seed, 0)
        info = CheckpointInfo(
            model=name,
            classes=material.classes,
            colors=colors_of(material.classes),
            box=data.box,
            voxel_size=data.voxel_size,
            is_inverted=data.is_inverted,
            tilt_range=data.tilt_range,
            normalization=Normalization(mode=data.mode),
            trained_by=trained_by,
            license=config.license,
            software=version("napari-ectkd"),
        )
        model = build_model(name, len(material.classes), data.box)
        return cls(name, model, info, {})

    def load(self, run: Run) -> None:
        """Take the weights of a run that is over: those that its figures are of.

        Raises
        ------
        FileMissingError, FormatError
            As `load_checkpoint`.
        """
        has_other = run.validated_path.exists()
        self.model, self.info = load_checkpoint(
            run.validated_path if has_other else run.best_path
        )

    def learn(
        self,
        lesson: Lesson,
        config: TrainConfig,
        run: Run,
        *,
        cancel: Cancel,
        is_resumed: bool,
    ) -> Generator[Event, None, None]:
        """Train, load the best weights again, and set down the result.

        Where the model then learns once more from all labels (see `refit`), the
        learner keeps the one that has not seen the validation part.
        """
        material = lesson.material
        is_first = rank_from_environment() == 0
        device = choose_worker_device(config.device)
        where = environment(device)
        if is_first:
            yield from note_environment(run, where, material.fingerprint)
        is_refit = refit.is_wanted(material, config)
        beginning = copy.deepcopy(self.model)
        workers = Workers.join(device)
        if workers.first_s(refit.has_begun(run)):
            self.load(run)
            self.result = refit.result_so_far(run)
        else:
            stream = fit(
                self.model,
                material,
                lesson.objective,
                config,
                run,
                self.info,
                cancel=cancel,
                is_resumed=is_resumed,
                constant_metrics=lesson.constant_metrics,
            )
            standing = yield from refit.lengthened(stream) if is_refit else stream
            yield from self._conclude(standing, lesson, config, run, cancel)
            if is_first:
                yield self._write_card(material, config, run, where)
                if is_refit:
                    refit.begin(run, self.result)
        if is_first:
            run.resume_path.unlink(missing_ok=True)
        workers.wait()
        if not is_refit:
            return
        seconds = yield from refit.learn_from_all(
            beginning,
            self.info,
            lesson.from_all or lesson,
            config,
            run,
            cancel=cancel,
        )
        self.result["is_refit"] = True
        self.result["seconds"] += seconds
        if is_first:
            yield self._write_card(material, config, run, where)

    def _conclude(
        self,
        standing: dict[str, Any],
        lesson: Lesson,
        config: TrainConfig,
        run: Run,
        cancel: Cancel,
    ) -> Generator[Event, None, None]:
        """Load the best weights again, correct, judge and calibrate them; save that."""
        device = choose_worker_device(config.device)
        material = lesson.material
        self.load(run)
        Workers.join(device).wait()  # nobody loads what the first one saves below
        if lesson.correct:
            yield from lesson.correct(self.model, material)
        self.result = {
            "model": self.name,
            "classes": self.info.classes,
            "box": self.info.box,
            "voxel_size": self.info.voxel_size,
            "parameters": count_parameters(self.model),
            "macs": count_macs(self.name, len(self.info.classes), self.info.box),
            **standing,
        }
        if len(material.split.validation):
            logits = yield from validation_logits(
                to_device(self.model, device),
                material,
                device,
                choose_precision(device, config.precision),
                2 * config.batch_size,
                cancel,
            )
            targets = material.targets[material.split.validation]
            metrics, report = score_logits(logits, targets, material.classes)
            # Where the weights were corrected, the epoch's own are not theirs any more.
            metrics |= recalls(report)
            self.result |= metrics
            self.result["report"] = report.as_dict()
            found = calibrate(logits, targets)
            self.result["calibration"] = found.model_dump(mode="json")
            self.info = self.info.model_copy(
                update={"calibration": found, "metrics": self.info.metrics | metrics}
            )
            yield Noted(text=in_words(found))
        if rank_from_environment() == 0:
            save_checkpoint(run.best_path, self.model, self.info)

    def _write_card(
        self, material: Material, config: TrainConfig, run: Run, where: dict[str, Any]
    ) -> Saved:
        # A stream drained without the command line has no config.json.
        has_config = run.config_path.exists()
        card = make_card(
            run,
            self.info,
            material,
            self.result,
            run.config() if has_config else config.model_dump(mode="json"),
            where,
            repeatability(choose_worker_device(config.device)),
        )
        write_card(run, card)
        return Saved(what="model card", path=str(run.card_path))


def note_environment(
    run: Run, where: dict[str, Any], data_fingerprint: str
) -> Iterator[Event]:
    """Keep what a run depends on; warn if the data is not what the run began with."""
    sessions: list[dict[str, Any]] = []
    try:
        sessions = json.loads(run.environment_path.read_text())
    except (OSError, ValueError):
        sessions = []  # a new run
    if sessions and sessions[0].get("data") != data_fingerprint:
        yield Noted(
            text="the data is not what this run began with (labels, places or files "
            "have changed): what comes is a mixture of both",
            is_warning=True,
        )
    with atomic_path(run.environment_path) as temporary:
        sessions.append(where | {"data": data_fingerprint})
        temporary.write_text(json.dumps(sessions, indent=1) + "\n")
