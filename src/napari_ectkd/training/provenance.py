"""Where a model comes from: the data, by a hash, and the machine, by its versions."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_ectkd.devices.choice import device_title
from napari_ectkd.io.tomogram_list import open_tomograms

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_ectkd.dataset.config import DataConfig
    from napari_ectkd.dataset.subtomograms import LabeledSubtomograms

HEADER_BYTES = 1024
"""Of a file that are hashed, besides its size: an MRC header, statistics and all."""
_PACKAGES = ("napari-ectkd", "torch", "numpy", "scipy", "safetensors", "mrcfile")


def fingerprint(config: DataConfig, data: LabeledSubtomograms) -> str:
    """Return a hash of what was learned from: labels, places, and files' headers.

    Voxels are not read: of each tomogram, and of each file in a folder of subtomograms,
    size and header count. Paths don't, so that data may be moved.

    Parameters
    ----------
    config
        Where the data came from.
    data
        As it was opened.
    """
    digest = hashlib.sha256()
    facts = [data.box, round(data.voxel_size, 4), data.mode, data.tilt_range]
    digest.update(json.dumps([*facts, list(map(str, data.label))]).encode())
    digest.update(json.dumps(list(map(str, data.tomogram))).encode())
    # A STAR file keeps a thousandth of an ångström.
    places = np.round(np.nan_to_num(data.positions, nan=-1e9), 2)
    digest.update((places + 0.0).tobytes())  # −0 is 0
    for file in _files(config, data):
        with file.open("rb") as opened:
            digest.update(f"{file.name} {file.stat().st_size}".encode())
            digest.update(opened.read(HEADER_BYTES))
    return digest.hexdigest()


def environment(device: torch.device) -> dict[str, Any]:
    """Return what a run depends on besides its settings, as JSON values."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "device": str(device),
        "device_name": device_title(device),
        "threads": torch.get_num_threads(),
    }
    for name in ("OMP_NUM_THREADS", "GLIBC_TUNABLES", "WORLD_SIZE"):
        if name in os.environ:
            found[name] = os.environ[name]
    if device.type == "cuda":
        found["cuda"] = torch.version.cuda
        found["cudnn"] = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return found


def repeatability(device: torch.device) -> str:
    """Return how far the same seed gives the same weights on a device."""
    if device.type == "cpu":
        return (
            "On a CPU with the same number of threads and the same versions, the same "
            "seed and data give the same weights, also after an interruption."
        )
    return (
        f"On {device.type.upper()} the same seed gives the same order, augmentation "
        "and first weights; sums are made in an order that varies, so that the last "
        "weights are similar and not equal."
    )


def _files(config: DataConfig, data: LabeledSubtomograms) -> Iterable[Path]:
    for folder in config.data:
        if Path(folder).is_dir():
            yield from sorted(f for f in Path(folder).rglob("*.mrc*") if f.is_file())
    names = {str(name) for name in data.tomogram} - {""}
    if config.tomograms and names:
        tomograms = open_tomograms(
            config.tomograms, names, voxel_size=config.voxel_size
        )
        yield from (tomogram.path for tomogram in tomograms.values())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
