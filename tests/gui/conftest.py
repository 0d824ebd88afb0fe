"""What tests of the window share; those with a real window need a screen."""

from __future__ import annotations

import os
import sys

import mrcfile
import numpy as np
import pytest
import torch

from napari_ectkd.gui.session import Session
from napari_ectkd.io.picks import Picks
from napari_ectkd.models.checkpoint import (
    CheckpointInfo,
    Normalization,
    save_checkpoint,
)
from napari_ectkd.models.registry import build_model

HAS_SCREEN = sys.platform != "linux" or any(
    os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
)
if not HAS_SCREEN:  # enough for all but real windows, which draw by OpenGL
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
CAN_DRAW = os.environ.get("QT_QPA_PLATFORM") != "offscreen"


def pytest_collection_modifyitems(items):
    if CAN_DRAW:
        return
    skip = pytest.mark.skip(reason="no screen: run under xvfb-run")
    for item in items:
        if "/tests/gui/window/" in item.path.as_posix():
            item.add_marker(skip)


@pytest.fixture
def tomogram_file(tmp_path):
    """Return a function that writes a small tomogram with a bright blob, 10 Å."""

    def write(name="tomo", shape=(20, 40, 48), voxel_size=10.0, sign=1.0):
        noise = np.random.default_rng(0).normal(size=shape)
        z, y, x = np.indices(shape) - np.array(shape)[:, None, None, None] // 2
        noise += 6 * np.exp(-(z**2 + y**2 + x**2) / 18)
        path = tmp_path / f"{name}.mrc"
        with mrcfile.new(path) as mrc:
            mrc.set_data((sign * noise).astype(np.float32))
            mrc.voxel_size = voxel_size
        return path

    return write


@pytest.fixture
def session(qtbot, tomogram_file):
    """Return a session without a window, with one tomogram open."""
    from napari.components import ViewerModel

    viewer = ViewerModel()
    session = Session.of(viewer)
    session.open_tomogram(tomogram_file(), is_inverted=False)
    yield session
    session.save()


@pytest.fixture
def another_session(qtbot):
    """Return a function that makes the session of one more viewer, as after a start."""
    from napari.components import ViewerModel

    viewers = []  # a session does not keep its viewer alive

    def make():
        viewers.append(ViewerModel())
        return Session.of(viewers[-1])

    return make


@pytest.fixture
def some_picks():
    """Return a function that makes picks with everything that picks may have."""
    import pandas as pd

    def make(name="tomo", n=4):
        rng = np.random.default_rng(1)
        share = rng.dirichlet([1, 1], n)
        return Picks.create(
            rng.uniform(30, 150, (n, 3)),
            name,
            label=["ring", "", "none", ""][:n],
            angles=rng.uniform(-90, 90, (n, 3)),
            pick_id=np.arange(n) * 3 + 5,
            foreign=pd.DataFrame({"rlnOpticsGroup": [1] * n, "my": list("abcd")[:n]}),
        ).with_predictions(pd.DataFrame(share, columns=["ring", "shell"]))

    return make


@pytest.fixture
def write_model(tmp_path):
    """Write a checkpoint of random weights, which say something of every place."""

    def write(name, **changes):
        torch.manual_seed(0)
        model = build_model(name, 3, 24)
        if name == "compact":
            with torch.no_grad():
                model.head.weight *= 20
                model.head.bias.copy_(torch.tensor([0.5, 0.5, 0.0]))
        info = CheckpointInfo(
            model=name,
            classes=["ring", "shell", "none"],
            diameters={"ring": 60.0, "shell": 60.0},
            box=24,
            voxel_size=10.0,
            normalization=Normalization(mode="data"),
            trained_by="distill",
            **changes,
        )
        path = tmp_path / f"{name}.safetensors"
        save_checkpoint(path, model, info)
        return path

    return write
