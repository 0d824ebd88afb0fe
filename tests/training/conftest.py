"""What the training's tests share: a few phantoms, and runs on them."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from torch import nn

from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.events import Cancel
from napari_ectkd.models import teachers
from napari_ectkd.models.registry import MODELS, ModelSpec
from napari_ectkd.runs import Run
from napari_ectkd.simulation.config import SubtomogramSimulation
from napari_ectkd.simulation.subtomograms import simulate_subtomograms
from napari_ectkd.training.config import TrainConfig
from napari_ectkd.training.train import train


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in another order differ in the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def forgetful(monkeypatch):
    """The smallest network with dropout and batch norms, by that name."""

    def build(n_classes, box_px):
        return nn.Sequential(
            nn.Conv3d(1, 4, 3, stride=4),
            nn.BatchNorm3d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(4 * (box_px // 4) ** 3, n_classes),
        )

    monkeypatch.setattr(teachers, "forgetful", build, raising=False)
    spec = ModelSpec(
        "forgetful", "teacher", "", 8, 1e-3, (teachers.__name__, "forgetful")
    )
    monkeypatch.setitem(MODELS, "forgetful", spec)


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory):
    """Seven phantoms and none, two of each, with hardly any noise."""
    out = tmp_path_factory.mktemp("phantoms") / "data"
    config = SubtomogramSimulation(
        out=out, per_class=2, none=2, box=24, voxel_size=14, snr=20, off_center=0
    )
    for _ in simulate_subtomograms(config, cancel=Cancel()):
        pass
    return out


@pytest.fixture
def learn(tmp_path, phantoms):
    """Make a run and return the stream of its training, with the run."""

    def start(name="run", *, data=None, cancel=None, is_resumed=False, **settings):
        defaults = {
            "model": "compact",
            "epochs": 4,
            "batch_size": 8,
            "validation_fraction": 0.5,
            "refit": False,
            "precision": "float32",
            "device": "cpu",
        }
        run = Run(tmp_path / name)
        stream = train(
            data or DataConfig(data=[phantoms]),
            TrainConfig(**defaults | settings),
            run,
            cancel=cancel or Cancel(),
            is_resumed=is_resumed,
        )
        return stream, run

    return start


def stopped(learn, name, **settings):
    """Stop a run once it has saved a state; return it, and how it stands."""
    stream, run = learn(name, **settings)
    while not run.resume_path.exists():
        next(stream)
    stream.close()
    with safe_open(run.resume_path, framework="pt") as file:
        return run, json.loads(file.metadata()["facts"])
