"""A whole tomogram swept from the window, by the worker that users have."""

import mrcfile
import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt, QTimer

from napari_ectkd.gui.classify_panel import ClassifyPanel
from napari_ectkd.gui.open_jobs import Jobs
from napari_ectkd.gui.session import Session
from napari_ectkd.io.picks import Picks
from napari_ectkd.io.star import DIAMETER


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
    layer = panel.session.layers.points("tomo")
    assert len(layer.data) == len(first)

    # A hit that somebody labeled stays, and is not doubled; the others are new.
    panel.session.assign("none", [1])
    second = sweep(panel, qtbot)
    assert len(second) == len(first)
    labeled = second[second.is_labeled]
    assert sorted(labeled.label) == ["none", "shell"]
    assert labeled.pick_id.tolist() == first.pick_id[:2].tolist()
    assert second.foreign[DIAMETER].notna().sum() == n_hits
    panel.session.undo_stack.undo()
    np.testing.assert_array_equal(
        panel.session.picks("tomo").positions, first.positions
    )


def test_the_mask_shown_limits_the_search_too(panel, qtbot, write_model, tmp_path):
    panel.model.setValue(write_model("compact"))
    panel.what.setValue("sweep")
    assert not panel.in_mask.isVisible()
    mask = np.zeros((40, 64, 72), np.int8)
    mask[:, :, :36] = 1
    with mrcfile.new(tmp_path / "left.mrc") as mrc:
        mrc.set_data(mask)
    panel.filters.set_mask(tmp_path / "left.mrc")
    assert panel.in_mask.isVisible()
    found = sweep(panel, qtbot)
    assert len(found)
    assert (found.positions[:, 2] < 360).all()
    panel.in_mask.setChecked(False)
    assert (sweep(panel, qtbot).positions[:, 2] > 360).any()
    panel.what.setValue("picks")
    assert not panel.in_mask.isVisible()


def test_a_network_that_cannot_be_swept_is_said(panel, write_model):
    panel.model.setValue(write_model("residual_small"))
    assert "No picks to classify" in panel.start_button.toolTip()
    panel.what.setValue("sweep")
    assert not panel.start_button.isEnabled()
    assert "residual_small cannot be swept" in panel.start_button.toolTip()


def test_score_maps_are_kept_and_shown(panel, qtbot, write_model):
    pytest.importorskip("zarr")
    viewer = panel.session.viewer
    panel.model.setValue(write_model("compact"))
    assert not panel.keep_scores.isVisible()  # picks have no map
    panel.what.setValue("sweep")
    qtbot.mouseClick(
        panel.keep_scores,
        Qt.MouseButton.LeftButton,
        pos=QPoint(10, panel.keep_scores.height() // 2),
    )
    assert panel.keep_scores.isChecked()
    sweep(panel, qtbot)
    assert "MB in" in panel.maps.text.text()
    panel.session.layers.points("tomo").visible = False
    viewer.dims.set_current_step(0, 20)
    before = viewer.screenshot(canvas_only=True, flash=False)
    assert n_colored(before) == 0
    panel.area.ensureWidgetVisible(panel.maps)
    panel.maps.choice.setFocus()
    qtbot.keyClicks(panel.maps.choice, "s")  # as one chooses in a list
    assert panel.maps.choice.currentText() == "shell"
    # The probability is about a third everywhere: the color of the class, faint.
    qtbot.waitUntil(
        lambda: n_colored(viewer.screenshot(canvas_only=True, flash=False)) > 1000
    )
    panel.maps.choice.setCurrentIndex(0)
    after = viewer.screenshot(canvas_only=True, flash=False)
    assert n_colored(after) == 0
    # Where nothing changed, the maps stay too, and can be chosen again.
    panel.maps.choice.setCurrentIndex(1)
    sweep(panel, qtbot)
    assert "Nothing had changed" in panel.status.message.text()
    assert panel.maps.choice.value() is None
    panel.maps.choice.setCurrentIndex(1)
    [ring] = [x for x in viewer.layers if "probability" in x.name and x.visible]
    assert "ring" in ring.name


def n_colored(picture):
    """Return how many pixels are not gray."""
    rgb = picture[..., :3].astype(int)
    return int(((rgb.max(axis=2) - rgb.min(axis=2)) > 60).sum())


def test_the_window_draws_while_a_sweep_is_at_work(
    panel, qtbot, tomogram_file, write_model
):
    viewer = panel.session.viewer
    panel.session.open_tomogram(
        tomogram_file("large", shape=(64, 128, 144)), is_inverted=False
    )
    panel.model.setValue(write_model("compact"))
    panel.what.setValue("sweep")
    camera, dims = viewer.scene.camera, viewer.dims
    n_slices = dims.nsteps[0]
    middle = np.array(camera.center)
    asked, drawn, pictures = [], [], []

    def change():
        if len(asked) in (2, 6):
            pictures.append(viewer.screenshot(canvas_only=True, flash=False))
        n = len(asked)
        dims.set_current_step(0, n % n_slices)
        offset = np.array([0, 10 * np.sin(n), 10 * np.cos(n)])
        camera.center = tuple(middle + offset)
        asked.append((n % n_slices, camera.center))

    def on_draw(_event):
        state = (dims.current_step[0], camera.center)
        if asked and state == asked[-1] and state not in drawn and panel.job.is_active:
            drawn.append(state)
            again.start()

    again = QTimer(singleShot=True, interval=10)
    again.timeout.connect(change)
    canvas = viewer.window._qt_viewer.canvas._scene_canvas
    canvas.events.draw.connect(on_draw, position="last")
    with qtbot.waitSignal(panel.job.ended, timeout=60_000):
        qtbot.mouseClick(panel.start_button, Qt.MouseButton.LeftButton)
        again.start()
    again.stop()
    canvas.events.draw.disconnect(on_draw)
    assert not panel.status.is_error, panel.status.message.text()

    # All that was asked for while the worker lived was drawn, but perhaps the last.
    assert drawn == asked[: len(drawn)]
    assert len(asked) - len(drawn) <= 1
    assert len(drawn) > 6
    before, after = pictures
    assert (before != after).any()
    assert n_colored(after) == 0

    hits = panel.session.picks("large")
    assert len(hits) > 3
    assert len(panel.session.layers.points("large").data) == len(hits)
    dims.set_current_step(0, round(hits.positions[0, 0] / 10))
    camera.center = tuple(middle)
    qtbot.waitUntil(
        lambda: n_colored(viewer.screenshot(canvas_only=True, flash=False)) > 50
    )
