"""A data set of any form, opened: subtomograms to read batches from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_ectkd.dataset.from_folder import load_folder, load_stacks
from napari_ectkd.dataset.from_picks import load_picks
from napari_ectkd.dataset.subtomograms import join_subtomograms
from napari_ectkd.errors import ConfigError, DataError, FileMissingError
from napari_ectkd.io.picks import UNKNOWN, UNLABELED
from napari_ectkd.io.stacks import is_stack_folder

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from napari_ectkd.dataset.config import DataConfig
    from napari_ectkd.dataset.subtomograms import LabeledSubtomograms
    from napari_ectkd.events import Cancel, Event


def load_dataset(
    config: DataConfig, *, cancel: Cancel
) -> Generator[Event, None, LabeledSubtomograms]:
    """Yield what happens while a data set is opened; return it.

    Raises
    ------
    EctkdError
        If something in it is broken or does not fit together.
    """
    if config.stream is not None:
        raise ConfigError(
            "a stream of simulations (--stream) is for training and distilling; name a "
            "data set (--data)"
        )
    if not config.data:
        raise ConfigError("no data set to learn from or test on (--data)")
    parts: list[LabeledSubtomograms] = []
    for path in config.data:
        size = parts[0].voxel_size if parts else None
        parts.append((yield from _load(path, config, cancel, voxel_size=size)))
    data = join_subtomograms(parts)
    if UNKNOWN in data.label:
        raise DataError(f"{UNKNOWN!r} cannot be learned; give these picks a class")
    return data


def load_unlabeled(
    paths: Sequence[Path], config: DataConfig, voxel_size: float, *, cancel: Cancel
) -> Generator[Event, None, LabeledSubtomograms]:
    """Yield what happens while subtomograms without labels are opened; return them.

    Parameters
    ----------
    paths
        STAR files, of which the picks without a label count, or folders of
        subtomograms, whose labels are not looked at.
    config
        Tomograms, box and normalization, as of the labeled ones.
    voxel_size
        Å, of the labeled ones: picks are resampled to it.
    cancel
        Looked at now and then.

    Raises
    ------
    EctkdError
        If something in them is broken or does not fit together.
    """
    parts = []
    for path in paths:
        part = yield from _load(
            path, config, cancel, is_labeled=False, voxel_size=voxel_size
        )
        label = np.full(len(part), UNLABELED, dtype=object)
        parts.append(replace(part, label=label))
    return join_subtomograms(parts)


def _load(
    path: Path,
    config: DataConfig,
    cancel: Cancel,
    *,
    is_labeled: bool = True,
    voxel_size: float | None = None,
) -> Generator[Event, None, LabeledSubtomograms]:
    if not path.exists():
        raise FileMissingError(f"{path}: no such data set")
    if not path.is_dir():
        return (
            yield from load_picks(
                path, config, cancel, is_labeled=is_labeled, voxel_size=voxel_size
            )
        )
    if is_stack_folder(path):
        return (yield from load_stacks(path, config))
    return (yield from load_folder(path, config))
