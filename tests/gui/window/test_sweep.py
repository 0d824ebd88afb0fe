"""A whole tomogram swept from the window, by the worker that users have."""

import numpy as np
import pytest
import torch
from qtpy.QtCore import Qt

from napari_ectkd.gui.classify_panel import ClassifyPanel
from napari_ectkd.gui.open_jobs import Jobs
from napari_ectkd.gui.session import Session
from napari_ectkd.io.picks import Picks
from napari_ectkd.io.star import DIAMETER
from napari_ectkd.models.checkpoint import (
    CheckpointInfo,
    Normalization,
    save_checkpoint,
)
from napari_ectkd.models.registry import build_model


@pytest.fixture
def write_model(tmp_path):
    """Write a checkpoint of random weights, which say something of every place."""

    def write(name):
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
        )
        path = tmp_path / f"{name}.safetensors"
        save_checkpoint(path, model, info)
        return path

    return write


@pytest.fixture
def panel(make_napari_viewer, tomogram_file):
    viewer = make_napari_viewer(show=True)
    session = Session.of(viewer)
    session.open_tomogram(tomogram_file(shape=(40, 64, 72)), is_inverted=False)
    panel = ClassifyPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Classify")
    yield panel
    Jobs.of(viewer).stop_all()
    session.save()


def sweep(panel, qtbot):
    with qtbot.waitSignal(panel.job.ended, timeout=60_000):
        qtbot.mouseClick(panel.start_button, Qt.MouseButton.LeftButton)
    assert not panel.status.is_error, panel.status.message.text()
    return panel.session.picks("tomo")


def test_hits_are_shown_and_those_of_an_earlier_sweep_go(panel, qtbot, write_model):
    by_hand = Picks.create([[30.0, 30, 30]], "tomo", label="shell")  # near the rim
    panel.session.set_picks("tomo", by_hand)
    panel.model.setValue(write_model("compact"))
    panel.what.setValue("sweep")
    assert panel.start_button.text() == "Sweep"
    first = sweep(panel, qtbot)
    n_hits = len(first) - 1
    assert n_hits > 3
    assert f"{n_hits} particles found. In tomo {n_hits} of them are new" in (
        panel.status.message.text()
    )
    assert set(first.prediction[1:]) <= {"ring", "shell"}
    assert (first.confidence[1:] >= 0.2).all()
    layer = panel.session.points_layer("tomo")
    assert len(layer.data) == len(first)

    # A hit that somebody labeled stays, and is not doubled; the others are new.
    panel.session.assign("none", [1])
    second = sweep(panel, qtbot)
    assert len(second) == len(first)
    labeled = second[second.is_labeled]
    assert sorted(labeled.label) == ["none", "shell"]
    assert labeled.pick_id.tolist() == first.pick_id[:2].tolist()
    assert second.foreign[DIAMETER].notna().sum() == n_hits
    panel.session.undo()
    np.testing.assert_array_equal(
        panel.session.picks("tomo").positions, first.positions
    )


def test_a_network_that_cannot_be_swept_is_said(panel, write_model):
    panel.model.setValue(write_model("residual_small"))
    assert "No picks to classify" in panel.start_button.toolTip()
    panel.what.setValue("sweep")
    assert not panel.start_button.isEnabled()
    assert "residual_small cannot be swept" in panel.start_button.toolTip()
