"""A run's settings: kept as JSON when it starts, read again when it is resumed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from napari_ectkd.errors import ConfigError, FormatError
from napari_ectkd.training.config import UnlabeledConfig

if TYPE_CHECKING:
    from napari_ectkd.dataset.config import DataConfig
    from napari_ectkd.runs import Run
    from napari_ectkd.training.config import TrainConfig

_Settings = TypeVar("_Settings", bound=BaseModel)


def settings(kind: str, data: DataConfig, config: TrainConfig) -> dict[str, Any]:
    """Return a run's settings as JSON, with paths that hold from any folder."""
    kept = data.model_copy(
        update={
            "data": [path.resolve() for path in data.data],
            "tomograms": [path.resolve() for path in data.tomograms],
            "stream": data.stream.resolve() if data.stream else None,
        }
    )
    if isinstance(config, UnlabeledConfig):
        unlabeled = [path.resolve() for path in config.unlabeled]
        config = config.model_copy(update={"unlabeled": unlabeled})
    return {
        "kind": kind,
        "data": kept.model_dump(mode="json"),
        "config": config.model_dump(mode="json"),
    }


def kept_settings(run: Run, kind: str) -> dict[str, Any]:
    """Return the settings of a run that can be gone on with.

    Raises
    ------
    ConfigError
        If it is the run of another command, has finished, or waits for a scheduler,
        which will go on with it.
    """
    kept = run.config()
    if kept.get("kind") != kind:
        raise ConfigError(
            f"{run.path} is a run of `ectkd {kept.get('kind')}`; resume it with that"
        )
    if run.is_waiting():
        raise ConfigError(
            f"{run.path} waits for a scheduler; to go on with it here, cancel it there "
            f"first ({run.cancel_path})"
        )
    # Before the log is written to: a finished run stays finished.
    run.check_resumable()
    return kept


def kept_part(
    run: Run, kind: type[_Settings], kept: dict[str, Any], key: str
) -> _Settings:
    """Return one part of the settings that a run was started with."""
    try:
        return kind.model_validate(kept.get(key))
    except ValidationError as error:
        what = "; ".join(f"{p['loc']}: {p['msg']}" for p in error.errors())
        raise FormatError(
            f"{run.config_path}: settings that this version cannot read ({what}); "
            "start a new run"
        ) from error
