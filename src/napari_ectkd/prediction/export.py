"""A model for other programs: ONNX or torch.export, checked against the original."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from napari_ectkd.errors import ConfigError
from napari_ectkd.evaluation.calibration import softmax
from napari_ectkd.events import Finished, Noted, Progress, Saved
from napari_ectkd.io.atomic import atomic_path
from napari_ectkd.models.checkpoint import load_checkpoint
from napari_ectkd.models.folding import folded
from napari_ectkd.models.sweepable import Sweepable
from napari_ectkd.prediction.export_formats import FORMATS
from napari_ectkd.runs import Run

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from torch import Tensor

    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.models.checkpoint import CheckpointInfo
    from napari_ectkd.prediction.config import ExportConfig

TOLERANCE = 1e-4
"""Largest difference from the original's logits, as a share of the largest of them."""


class Calibrated(nn.Module):
    """A network with the softmax at its calibrated temperature behind it.

    In the graph and not beside it, so that nobody who uses the file can forget it.

    Parameters
    ----------
    model
        Called on volumes `(b, 1, z, y, x)`.
    temperature
        What logits are divided by.
    is_swept
        Whether the network's `score` is asked, and not the network itself.
    """

    def __init__(self, model: nn.Module, temperature: float, *, is_swept: bool) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature
        self.is_swept = is_swept

    def forward(self, volumes: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and probabilities, classes along the second axis."""
        logits = self.model.score(volumes) if self.is_swept else self.model(volumes)  # type: ignore[operator]
        return logits, torch.softmax(logits / self.temperature, dim=1)


def export_model(
    model_path: Path, out: Path, config: ExportConfig, *, cancel: Cancel
) -> Iterator[Event]:
    """Write a model for programs that know nothing of this one.

    Batch normalization is folded into the convolutions. The file takes `volumes`
    `(batch, 1, box, box, box)`, float32, protein bright, normalized as the metadata
    say, and gives `logits` and calibrated `probabilities`, both `(batch, classes)`. The
    file for sweeps takes volumes of any edges that hold two windows, and gives them as
    `(batch, classes, z, y, x)`, one for each `stride` voxels.

    Each file is loaded again by its own runtime and compared with the original network
    on noise, in several batch sizes (and edges); one that differs is not written.

    Parameters
    ----------
    model_path
        Run folder or checkpoint file.
    out
        File to write, with the ending of the format.
    config
        Format, whether also for sweeps, license.
    cancel
        Looked at between files.

    Raises
    ------
    ConfigError
        If the ending is another format's, the network cannot be swept or the packages
        for the format are missing.
    DataError
        If the exported file does not give what the network gives.
    EctkdError
        If the model cannot be loaded.
    """
    format_ = FORMATS[config.format]
    if out.suffix != format_.suffix:
        raise ConfigError(
            f"{out.name}: a file of format {config.format} ends in {format_.suffix}"
        )
    format_.check_installed()
    model, info = load_checkpoint(model_path)
    if config.sweep and not isinstance(model, Sweepable):
        raise ConfigError(
            f"{info.model} cannot be swept (it pads its volumes); leave --sweep away, "
            "or distill a student that can"
        )
    return _export(model_path, model, info, out, config, cancel)


def _export(
    model_path: Path,
    model: nn.Module,
    info: CheckpointInfo,
    out: Path,
    config: ExportConfig,
    cancel: Cancel,
) -> Generator[Event, None, None]:
    if info.calibration is None:
        yield Noted(
            text="the model was never calibrated: its probabilities are those of the "
            "raw logits",
            is_warning=True,
        )
    facts = describe(model_path, info, config.license or info.license)
    files = [(out, False)]
    if config.sweep:
        files.append((out.with_name(f"{out.stem}-sweep{out.suffix}"), True))
    result: dict[str, Any] = {"format": config.format, "files": []}
    for number, (path, is_swept) in enumerate(files):
        cancel.check()
        yield Progress(stage="export", done=number, total=len(files))
        with atomic_path(path) as temporary:
            difference = _write(temporary, model, info, facts, config, is_swept)
        size = path.stat().st_size
        result["files"].append(
            {
                "path": str(path),
                "is_for_sweeps": is_swept,
                "size_bytes": size,
                "largest_difference": difference,
            }
        )
        yield Saved(what="model for sweeps" if is_swept else "model", path=str(path))
        yield Noted(
            text=f"checked: its logits differ from the original's by {difference:.1e} "
            "at most"
        )
    yield Finished(result=result | {"metadata": facts})


def describe(model_path: Path, info: CheckpointInfo, license_: str) -> dict[str, str]:
    """Return what a model's numbers mean, as texts by name, for a file's metadata."""
    facts = json.loads(info.model_dump_json(exclude={"version", "calibration"}))
    facts |= {
        "input": "float32 (batch, 1, z, y, x), protein bright, normalized",
        "temperature": info.temperature,
        "min_confidence": info.min_confidence,
        "calibration": info.calibration and info.calibration.model_dump(mode="json"),
        "normalization": info.normalization.mode,
        "data_fingerprint": _fingerprint(model_path),
        "license": license_,
    }
    return {
        f"ectkd.{name}": value if isinstance(value, str) else json.dumps(value)
        for name, value in facts.items()
    }


def _write(
    path: Path,
    model: nn.Module,
    info: CheckpointInfo,
    facts: dict[str, str],
    config: ExportConfig,
    is_swept: bool,
) -> float:
    """Write one file; return the largest difference of its logits."""
    format_ = FORMATS[config.format]
    shapes = [(n, 1, *(info.box,) * 3) for n in (1, 2, 5)]
    dynamic = {0: "batch"}
    if is_swept and isinstance(model, Sweepable):
        window, stride = model.window_px, model.stride_px
        facts = facts | {"ectkd.stride": str(stride), "ectkd.window": str(window)}
        # Edges that differ, and are no multiple of the stride.
        more = (window + 9, window + 6, window + 14)
        # torch.export holds for two windows along each axis and more.
        least = (1, 1, *(window + stride,) * 3)
        shapes = [least, (2, 1, *more), (1, 1, *more[::-1])]
        dynamic |= {2: "z", 3: "y", 4: "x"}
    network = Calibrated(folded(model), info.temperature, is_swept=is_swept).eval()
    network.requires_grad_(False)  # or each user has to detach what comes out
    random = torch.Generator().manual_seed(0)
    volumes = [torch.randn(shape, generator=random) for shape in shapes]
    format_.write(path, network, volumes[1], dynamic, facts)
    run = format_.load(path)
    reference = Calibrated(model, info.temperature, is_swept=is_swept).eval()
    worst = 0.0
    for some in volumes:
        with torch.no_grad():
            logits = reference(some)[0].numpy()
        found, probabilities = run(some.numpy())
        worst = max(worst, _difference(logits, found))
        flat = np.moveaxis(found, 1, -1).reshape(-1, logits.shape[1])
        shares = np.moveaxis(probabilities, 1, -1).reshape(flat.shape)
        apart = np.abs(shares - softmax(flat, info.temperature)).max()
        if not (worst <= TOLERANCE * max(1.0, np.abs(logits).max()) and apart < 1e-5):
            raise format_.differs(worst)
    return worst


def _difference(expected: np.ndarray, found: np.ndarray) -> float:
    if expected.shape != found.shape:
        return float("inf")
    return float(np.abs(expected - found).max())


def _fingerprint(model_path: Path) -> str:
    """Return that of the data that the model learned from, from the run's card."""
    folder = model_path if model_path.is_dir() else model_path.parent
    try:
        card = json.loads(Run(folder).card_path.with_suffix(".json").read_text())
        return str(card["data"]["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        return "unknown"
