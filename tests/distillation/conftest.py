"""What distillation's tests share: a few phantoms, a teacher, and students' runs."""

from __future__ import annotations

import pytest
import torch

from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.distillation.config import DistillConfig
from napari_ectkd.distillation.distill import distill
from napari_ectkd.events import Cancel
from napari_ectkd.models.checkpoint import (
    CheckpointInfo,
    Normalization,
    save_checkpoint,
)
from napari_ectkd.models.registry import build_model
from napari_ectkd.runs import Run
from napari_ectkd.simulation.config import SubtomogramSimulation
from napari_ectkd.simulation.subtomograms import simulate_subtomograms
from napari_ectkd.training.config import TrainConfig
from napari_ectkd.training.train import train

CLASSES = ["barrel", "disc", "dumbbell", "helix", "ring", "shell", "tripod", "none"]
QUICK = {
    "batch_size": 8,
    "precision": "float32",
    "device": "cpu",
    "refit": False,
}


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in another order differ in the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory):
    """Seven phantoms and none, three of each, with hardly any noise."""
    out = tmp_path_factory.mktemp("phantoms") / "data"
    config = SubtomogramSimulation(
        out=out, per_class=3, none=3, box=24, voxel_size=14, snr=20, off_center=0
    )
    for _ in simulate_subtomograms(config, cancel=Cancel()):
        pass
    return out


@pytest.fixture(scope="session")
def teacher(phantoms, tmp_path_factory):
    """A teacher that knows its subtomograms by heart."""
    run = Run(tmp_path_factory.mktemp("runs") / "teacher")
    config = TrainConfig(
        model="residual_small",
        epochs=30,
        balance=0.0,
        rotations=False,
        shift=0,
        validation_fraction=0,
        **QUICK,
    )
    data = DataConfig(data=[phantoms])
    for _ in train(data, config, run, cancel=Cancel()):
        pass
    return run.path


@pytest.fixture
def untrained(tmp_path):
    """Write a checkpoint of random weights that says what it is told to."""

    def write(name="other", model="compact", classes=CLASSES, box=24, **changes):
        torch.manual_seed(0)
        info = CheckpointInfo(
            model=model,
            classes=classes,
            box=box,
            **{
                "voxel_size": 14.0,
                "tilt_range": (-60, 60),
                "normalization": Normalization(mode="data"),
                "trained_by": "train",
            }
            | changes,
        )
        path = tmp_path / f"{name}.safetensors"
        save_checkpoint(path, build_model(model, len(classes), box), info)
        return path

    return write


@pytest.fixture
def learn(tmp_path, phantoms, teacher):
    """Make a run and return the stream of its distillation, with the run."""

    def start(name="student", *, teachers=None, data=None, cancel=None, **settings):
        run = Run(tmp_path / name)
        is_resumed = settings.pop("is_resumed", False)
        stream = distill(
            [teacher] if teachers is None else teachers,
            data or DataConfig(data=[phantoms]),
            DistillConfig(**{"epochs": 3, **QUICK} | settings),
            run,
            cancel=cancel or Cancel(),
            is_resumed=is_resumed,
        )
        return stream, run

    return start
