"""A model learns again from judged hits, started by a click, by the true worker."""

import pytest
from qtpy.QtCore import Qt

from napari_ectkd.events import Finished, Noted
from napari_ectkd.gui.classify_panel import ClassifyPanel
from napari_ectkd.gui.open_jobs import Jobs
from napari_ectkd.gui.session import Session
from napari_ectkd.io.picks import Picks
from napari_ectkd.io.star import read_picks
from napari_ectkd.jobs import JobFolder
from napari_ectkd.models.checkpoint import (
    CheckpointInfo,
    Normalization,
    save_checkpoint,
)
from napari_ectkd.models.registry import build_model

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def panel(make_napari_viewer, tomogram_file):
    viewer = make_napari_viewer(show=True)
    session = Session.of(viewer)
    session.open_tomogram(tomogram_file(), is_inverted=False)
    panel = ClassifyPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Classify")
    yield panel
    Jobs.of(viewer).stop_all()
    session.save()


def test_judged_hits_are_handed_on_and_failures_are_said(panel, qtbot, tmp_path):
    session = panel.session
    hits = Picks.create(
        [[50.0, 90, 90], [60, 200, 90], [90, 300, 300]],
        "tomo",
        label=["", "", "ring"],  # the last one by hand
        prediction=["ring", "ring", ""],
        confidence=[0.9, 0.8, float("nan")],
    )
    session.set_picks("tomo", hits)
    info = CheckpointInfo(
        model="compact",
        classes=["ring", "none"],
        box=24,
        voxel_size=10.0,
        normalization=Normalization(mode="data"),
        trained_by="train",
    )
    path = tmp_path / "compact.safetensors"
    save_checkpoint(path, build_model("compact", 2, 24), info)
    panel.model.setValue(path)
    assert "reject or relabel some hits first" in panel.refine_button.toolTip()
    session.assign("none", [1])
    panel.area.ensureWidgetVisible(panel.refine_button)
    with qtbot.waitSignal(panel.learning.ended, timeout=60_000):
        qtbot.mouseClick(panel.refine_button, LEFT)
        assert "Training is at work" in panel.refine_button.toolTip()
    saved = read_picks(session.folder / "labels" / "refined-1.star")
    assert saved.label.tolist() == ["none"]
    assert saved.prediction.tolist() == ["ring"]
    assert "does not say what it was trained on" in panel.learn_status.message.text()
    assert panel.refine_button.isEnabled()


def test_a_run_of_another_panel_is_no_news(panel, qtbot, tmp_path):
    assert not panel.learn_status.isVisible()
    assert not panel.correct_button.isVisible()  # it would lead nowhere
    job = JobFolder(tmp_path)
    job.log(Noted(text="only 3 labels of disc", is_warning=True))
    job.log(Finished())
    with qtbot.waitSignal(panel.learning.done, timeout=10_000):
        panel.learning.attach(job.path)
    assert not panel.learn_status.isVisible()
    panel._refined = panel.learning.folder  # as if begun here
    with qtbot.waitSignal(panel.learning.done, timeout=10_000):
        panel.learning.attach(job.path)
    assert panel.learn_status.isVisible()
    assert "is among the models now" in panel.learn_status.message.text()
