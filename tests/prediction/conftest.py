"""What prediction's tests share: a model of random weights, a tomogram, its picks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from napari_ectkd.events import Cancel
from napari_ectkd.io.picks import Picks
from napari_ectkd.io.tomogram import open_tomogram
from napari_ectkd.models.checkpoint import (
    CheckpointInfo,
    Normalization,
    save_checkpoint,
)
from napari_ectkd.models.registry import build_model
from napari_ectkd.prediction.config import ClassifyConfig
from napari_ectkd.prediction.picks import classify_picks

PLACES = np.array([[12, 14, 16], [20, 30, 25], [17, 13, 33], [24, 24, 24]])


@pytest.fixture
def write_model(tmp_path):
    """Write a checkpoint of random weights whose logits differ from pick to pick."""

    def write(name="model", box=24, classes=("b", "a", "none"), **changes):
        torch.manual_seed(3)
        model = build_model("compact", len(classes), box)
        with torch.no_grad():
            model.head.weight *= 20
            model.head.bias.zero_()
        info = CheckpointInfo(
            model="compact",
            classes=list(classes),
            box=box,
            **{
                "voxel_size": 10.0,
                "is_inverted": False,
                "tilt_range": (-60, 60),
                "normalization": Normalization(mode="data"),
                "trained_by": "train",
            }
            | changes,
        )
        path = tmp_path / f"{name}.safetensors"
        save_checkpoint(path, model, info)
        return path

    return write


@pytest.fixture
def voxels():
    """Noise and dense blobs on a background that is not zero."""
    random = np.random.default_rng(0)
    volume = random.normal(5, 2, (40, 44, 48))
    z, y, x = np.indices(volume.shape)
    for place in PLACES[:2]:
        square = sum((a - p) ** 2 for a, p in zip((z, y, x), place, strict=True))
        volume += 12 * np.exp(-square / 20)
    return volume.astype(np.float32)


@pytest.fixture
def opened(make_mrc, voxels):
    """Write voxels and open them as a tomogram."""

    def make(sign=1, voxel_size=10.0, is_inverted=False, **facts):
        path = make_mrc(sign * voxels, voxel_size, name=f"{sign}/tomogram.mrc")
        return open_tomogram(path, is_inverted=is_inverted, **facts)

    return make


@pytest.fixture
def picks():
    """Picks with what people and other programs said of them."""
    return Picks.create(
        PLACES * 10.0,
        "tomogram",
        label=["a", "", "none", ""],
        pick_id=[11, 7, 30, 4],
        foreign=pd.DataFrame({"rlnClassNumber": [3, 1, 4, 1]}),
    )


@pytest.fixture
def classify():
    """Drain a classification; return the picks and the texts that were noted."""

    def run(model, tomogram, picks, **settings):
        texts = {}
        config = ClassifyConfig(**{"device": "cpu", "precision": "float32"} | settings)
        stream = classify_picks(model, tomogram, picks, config, cancel=Cancel())
        while True:
            try:
                event = next(stream)
            except StopIteration as end:
                return end.value, texts
            if event.kind == "noted":
                texts[event.text] = event.is_warning

    return run


@pytest.fixture
def untrained_teacher(tmp_path):
    """Write a checkpoint of a network that pads its volumes."""
    info = CheckpointInfo(
        model="residual_small",
        classes=["a", "b"],
        box=24,
        voxel_size=10,
        normalization=Normalization(mode="data"),
        trained_by="train",
    )
    path = tmp_path / "teacher.safetensors"
    save_checkpoint(path, build_model("residual_small", 2, 24), info)
    return path
