"""A model on its way from random weights to a run's result."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from napari_ectkd.devices import choose_precision
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
from napari_ectkd.training.loop import fit, score_logits, validation_logits
from napari_ectkd.training.provenance import environment, repeatability
from napari_ectkd.training.resume import seed_epoch
from napari_ectkd.training.workers import choose_worker_device, rank_from_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.runs import Run
    from napari_ectkd.training.batches import Material
    from napari_ectkd.training.config import TrainConfig
    from napari_ectkd.training.objective import Objective

    Correction = Callable[[nn.Module, Material], Generator[Event, None, None]]


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
        objective: Objective,
        material: Material,
        config: TrainConfig,
        run: Run,
        *,
        cancel: Cancel,
        is_resumed: bool,
        constant_metrics: dict[str, float] | None = None,
        correct: Correction | None = None,
    ) -> Generator[Event, None, None]:
        """Train, load the best weights again, and set down the result.

        Where the model then learns once more from all labels (see `refit`), the
        learner keeps the one that has not seen the validation part.

        Parameters
        ----------
        objective, material, config, run, cancel, is_resumed, constant_metrics
            As those of `fit`.
        correct
            What is done to the best weights before they are judged, with the material
            that they learned from.
        """
        device = choose_worker_device(config.device)
        is_first = rank_from_environment() == 0
        where = environment(device)
        if is_first:
            yield from note_environment(run, where, material.fingerprint)
        counts = [
            int((material.targets == i).sum()) for i in range(len(self.info.classes))
        ]
        has_validation = len(material.split.validation) > 0
        # A stream has no end: there is no label that it could learn from too.
        is_refit = (
            has_validation
            and not material.is_endless
            and refit.wants_all(config, counts)
        )
        beginning = copy.deepcopy(self.model)
        if refit.has_begun(run):
            self.load(run)
            self.result = refit.result_so_far(run)
        else:
            stream = fit(
                self.model,
                material,
                objective,
                config,
                run,
                self.info,
                cancel=cancel,
                is_resumed=is_resumed,
                constant_metrics=constant_metrics,
            )
            standing = yield from refit.lengthened(stream) if is_refit else stream
            yield from self._conclude(standing, material, config, run, cancel, correct)
            if is_first:
                yield self._write_card(material, config, run, where)
        if not is_refit:
            return
        if is_first and not refit.has_begun(run):
            refit.begin(run, self.result)
        yield from refit.learn_from_all(
            beginning,
            self.info,
            objective,
            material,
            config,
            run,
            cancel=cancel,
            correct=correct,
        )
        self.result["is_refit"] = True
        if is_first:
            yield self._write_card(material, config, run, where)

    def _conclude(
        self,
        standing: dict[str, Any],
        material: Material,
        config: TrainConfig,
        run: Run,
        cancel: Cancel,
        correct: Correction | None,
    ) -> Generator[Event, None, None]:
        """Load the best weights again, correct, judge and calibrate them."""
        device = choose_worker_device(config.device)
        self.load(run)
        if correct:
            yield from correct(self.model, material)
            if rank_from_environment() == 0:
                save_checkpoint(run.best_path, self.model, self.info)
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
                config.batch_size,
                cancel,
            )
            targets = material.targets[material.split.validation]
            metrics, report = score_logits(logits, targets, material.classes)
            self.result |= metrics
            self.result["report"] = report.as_dict()
            # A correction changes what the epoch's figures were.
            told = self.info.metrics | metrics
            self.info = self.info.model_copy(update={"metrics": told})
            self.calibrate(logits, targets, run)
            yield Noted(text=in_words(self.info.calibration))

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

    def calibrate(self, logits: Tensor, targets: NDArray[np.int64], run: Run) -> None:
        """Fit temperature and threshold, and write them into the best checkpoint.

        Parameters
        ----------
        logits
            `(n, k)` of the validation part.
        targets
            `(n,)` the right classes.
        run
            Whose best checkpoint holds the model's weights.
        """
        found = calibrate(logits, targets)
        self.info = self.info.model_copy(update={"calibration": found})
        if rank_from_environment() == 0:
            save_checkpoint(run.best_path, self.model, self.info)
        self.result["calibration"] = found.model_dump(mode="json")


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
