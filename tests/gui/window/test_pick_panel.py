"""Picking and labeling in a real window, by real clicks and keys."""

from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication

from napari_ectkd.gui.pick_panel import PickPanel
from napari_ectkd.gui.session import Session
from napari_ectkd.io.picks import Picks

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def panel(make_napari_viewer, tomogram_file, qtbot):
    viewer = make_napari_viewer(show=True)
    panel = PickPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Pick and label")
    viewer.window.resize(1200, 800)
    panel.tomograms.open_paths([tomogram_file()])
    panel.session.state(panel.session.current.with_contrast(is_inverted=False))
    viewer.reset_view()
    qtbot.wait(200)
    yield panel
    panel.session.save()


def place_of(panel, position):
    """Return the canvas and where on it a position in Å is."""
    widget = next(
        w
        for w in QApplication.allWidgets()
        if type(w).__name__.startswith("CanvasBack")
    )
    camera = panel.session.viewer.scene.camera
    offset = (np.array(position[1:]) - camera.center[1:]) * camera.zoom
    point = QPoint(
        round(widget.width() / 2 + offset[1]), round(widget.height() / 2 + offset[0])
    )
    return widget, point


def click_at(panel, qtbot, position):
    """Click on a position in Å of the slice that is shown."""
    widget, point = place_of(panel, position)
    qtbot.mouseClick(widget, LEFT, pos=point)
    return widget


def send_drag(widget, point):
    """Move the mouse with its button down, which qtbot cannot."""
    event = QMouseEvent(
        QEvent.Type.MouseMove,
        QPointF(point),
        widget.mapToGlobal(QPointF(point)),
        Qt.MouseButton.NoButton,
        LEFT,
        Qt.KeyboardModifier.NoModifier,
    )
    QApplication.sendEvent(widget, event)


def press(widget, qtbot, keys):
    for key in keys:
        qtbot.keyClick(widget, key)


def choose_class(panel, qtbot, name):
    table = panel.classes.table
    rows = [table.item(row, 1).text() for row in range(table.rowCount())]
    place = table.visualItemRect(table.item(rows.index(name), 1)).center()
    qtbot.mouseClick(table.viewport(), LEFT, pos=place)


def add_class(panel, qtbot, name):
    qtbot.keyClicks(panel.classes.new_name, name)
    qtbot.mouseClick(panel.classes.add_button, LEFT)


def test_clicks_pick_particles_of_the_chosen_class(panel, qtbot):
    add_class(panel, qtbot, "ring")
    viewer = panel.session.viewer
    viewer.dims.set_point(0, 100)
    qtbot.mouseClick(panel.by_hand, LEFT)
    choose_class(panel, qtbot, "ring")
    click_at(panel, qtbot, (100, 120, 150))
    choose_class(panel, qtbot, "none")
    click_at(panel, qtbot, (100, 250, 330))
    picks = panel.session.picks("tomo")
    assert picks.label.tolist() == ["ring", "none"]
    np.testing.assert_allclose(
        picks.positions, [[100, 120, 150], [100, 250, 330]], atol=5
    )
    qtbot.mouseClick(panel.undo_button, LEFT)
    assert panel.session.picks("tomo").label.tolist() == ["ring"]


def test_digits_label_in_the_mode_and_are_given_back(panel, qtbot):
    session = panel.session
    add_class(panel, qtbot, "ring")
    add_class(panel, qtbot, "shell")
    positions = [[100, 100, 100], [100, 200, 200], [100, 300, 300]]
    session.set_picks("tomo", Picks.create(positions, "tomo"))
    layer = session.layers.points("tomo")
    widget = click_at(panel, qtbot, (100, 20, 20))
    widget.setFocus()
    panel.keys_box.setChecked(True)
    assert layer.mode == "select"
    assert layer.selected_data == {0}
    press(widget, qtbot, [Qt.Key.Key_2, Qt.Key.Key_1, Qt.Key.Key_0])
    assert session.picks("tomo").label.tolist() == ["shell", "ring", "none"]
    assert layer.mode == "select"
    layer.selected_data = {1}
    press(widget, qtbot, [Qt.Key.Key_Backspace])
    assert session.picks("tomo").label.tolist() == ["shell", "", "none"]
    assert len(session.picks("tomo")) == 3
    panel.keys_box.setChecked(False)
    press(widget, qtbot, [Qt.Key.Key_2])
    assert layer.mode == "add"
    assert session.picks("tomo").label.tolist() == ["shell", "", "none"]


def test_n_goes_to_the_next_pick_without_a_label(panel, qtbot):
    session = panel.session
    positions = [[100, 100, 100], [40, 200, 200], [160, 300, 300]]
    labels = ["", "none", ""]
    session.set_picks("tomo", Picks.create(positions, "tomo", label=labels))
    widget = click_at(panel, qtbot, (100, 20, 20))
    panel.keys_box.setChecked(True)
    layer = session.layers.points("tomo")
    assert layer.selected_data == {0}
    press(widget, qtbot, [Qt.Key.Key_N])
    assert layer.selected_data == {2}
    assert session.viewer.dims.point[0] == pytest.approx(160, abs=5)
    press(widget, qtbot, [Qt.Key.Key_N])
    assert layer.selected_data == {0}
    press(widget, qtbot, [Qt.Key.Key_0])
    qtbot.mouseClick(panel.undo_button, LEFT)
    assert session.picks("tomo").label.tolist() == labels


def test_keys_go_to_the_picks_though_another_layer_was_active(panel, qtbot):
    session = panel.session
    session.set_picks("tomo", Picks.create([[100, 100, 100]], "tomo"))
    other = session.viewer.add_points([[100, 100, 100]], name="truth", units="angstrom")
    widget = click_at(panel, qtbot, (100, 20, 20))
    panel.keys_box.click()
    press(widget, qtbot, [Qt.Key.Key_0, Qt.Key.Key_2])
    assert session.picks("tomo").label.tolist() == ["none"]
    assert len(other.data) == 1
    assert other.mode == "pan_zoom"


def test_keys_work_on_after_the_picks_layer_was_deleted(panel, qtbot):
    session = panel.session
    session.set_picks("tomo", Picks.create([[100, 100, 100]], "tomo"))
    widget = click_at(panel, qtbot, (100, 20, 20))
    panel.keys_box.setChecked(True)
    session.viewer.layers.remove(session.layers.points("tomo"))
    qtbot.waitUntil(lambda: session.layers.points("tomo") is not None)
    session.viewer.layers.selection.active = session.layers.points("tomo")
    press(widget, qtbot, [Qt.Key.Key_N, Qt.Key.Key_0])
    assert session.picks("tomo").label.tolist() == ["none"]


def test_a_pick_is_moved_by_dragging(panel, qtbot):
    session = panel.session
    session.viewer.dims.set_point(0, 100)
    session.set_picks("tomo", Picks.create([[100, 100, 100]], "tomo", label="none"))
    before = session.picks("tomo")
    layer = session.layers.points("tomo")
    layer.mode = "select"
    widget, start = place_of(panel, (100, 100, 100))
    qtbot.mouseMove(widget, start)
    qtbot.mousePress(widget, LEFT, pos=start)
    target = np.array([10, 16, 22])

    def end():  # docks may still make the canvas narrower
        return place_of(panel, (100, 160, 220))[1]

    def has_arrived():  # events in quick succession are dropped
        send_drag(widget, end())
        return np.abs(layer.data[0] - target).max() < 1

    qtbot.waitUntil(has_arrived, timeout=30_000)
    assert session.picks("tomo") is before  # taken in at the end, as one step
    qtbot.mouseRelease(widget, LEFT, pos=end())
    moved = session.picks("tomo")
    np.testing.assert_allclose(moved.positions, [[100, 160, 220]], atol=6)
    assert moved.label.tolist() == ["none"]
    assert moved.pick_id.tolist() == before.pick_id.tolist()
    qtbot.mouseClick(panel.undo_button, LEFT)
    assert session.picks("tomo") is before


def test_picks_are_drawn_in_the_color_of_their_class(panel, qtbot):
    session = panel.session
    session.set_diameter(200)
    session.add_class("ring", "#ff0000")
    session.viewer.dims.set_point(0, 100)

    def n_red():
        pixels = session.viewer.screenshot(canvas_only=True, flash=False)[..., :3]
        red, green, blue = pixels.astype(int).transpose(2, 0, 1)
        return int(((red > 200) & (green < 60) & (blue < 60)).sum())

    assert n_red() == 0
    picks = Picks.create([[100, 120, 150]], "tomo", label="ring")
    session.set_picks("tomo", picks)
    assert n_red() > 300
    session.set_hidden({"ring"})
    assert n_red() == 0


def test_a_missing_voxel_size_is_asked_for(panel, qtbot, tomogram_file):
    form = panel.tomograms
    form.open_paths([tomogram_file("bare", voxel_size=0)])
    assert form.question.isVisible()
    assert "no voxel size" in form.question.text.text()
    form.question.voxel_size.setValue(7.5)
    qtbot.mouseClick(form.question.answer_button, LEFT)
    assert not form.question.isVisible()
    assert panel.session.current.name == "bare"
    assert panel.session.current.voxel_size == 7.5
    assert form.chooser.count() == 2


def test_an_open_question_keeps_no_other_file_waiting(panel, qtbot, tomogram_file):
    form = panel.tomograms
    bare = [tomogram_file(name, voxel_size=0) for name in ("bare", "barer")]
    form.open_paths([*bare, tomogram_file("known")])
    assert "bare.mrc" in form.question.text.text()
    assert list(panel.session.tomograms) == ["tomo", "known"]
    form.open_paths([tomogram_file("later")])
    assert list(panel.session.tomograms) == ["tomo", "known", "later"]
    qtbot.mouseClick(form.question.skip_button, LEFT)
    assert "barer.mrc" in form.question.text.text()
    qtbot.mouseClick(form.question.skip_button, LEFT)
    assert not form.question.isVisible()
    assert len(panel.session.tomograms) == 3


def test_star_files_without_a_voxel_size_are_asked_about(panel, qtbot, tmp_path):
    path = tmp_path / "bare.star"
    path.write_text(
        "data_particles\n\nloop_\n_rlnTomoName #1\n_rlnCoordinateX #2\n"
        "_rlnCoordinateY #3\n_rlnCoordinateZ #4\ntomo 4 5 6\n"
    )
    panel.load_picks(path)
    assert panel.question.isVisible()
    assert panel.question.voxel_size.value() == 10
    panel.question.voxel_size.setValue(20)
    qtbot.mouseClick(panel.question.answer_button, LEFT)
    assert panel.session.picks("tomo").positions.tolist() == [[120, 100, 80]]


def test_automatic_picks_come_from_a_process(panel, qtbot):
    panel.diameter.setValue(90)
    panel.threshold.setValue(6)
    with qtbot.waitSignal(panel.job.ended, timeout=60_000):
        qtbot.mouseClick(panel.pick_button, LEFT)
        assert not panel.pick_button.isEnabled()
    picks = panel.session.picks("tomo")
    assert len(picks) >= 1
    distance = np.linalg.norm(picks.positions - [100, 200, 240], axis=1)
    assert distance.min() < 20
    assert "picks found" in panel.status.message.text()
    panel.threshold.setValue(5)  # once more: nothing is picked twice
    with qtbot.waitSignal(panel.job.ended, timeout=60_000):
        qtbot.mouseClick(panel.pick_button, LEFT)
    again = panel.session.picks("tomo")
    assert again.positions[: len(picks)].tolist() == picks.positions.tolist()
    gaps = np.linalg.norm(again.positions[:, None] - again.positions, axis=2)
    assert gaps[~np.eye(len(again), dtype=bool)].min(initial=99) > 45
    panel.session.undo_stack.undo()
    assert panel.session.picks("tomo") is picks


def test_two_panels_take_the_picks_of_a_job_once(panel, qtbot):
    other = PickPanel(panel.session.viewer)
    qtbot.addWidget(other)
    panel.diameter.setValue(90)
    panel.threshold.setValue(6)
    with qtbot.waitSignal(panel.job.ended, timeout=60_000):
        panel.pick_button.click()
        qtbot.waitUntil(lambda: not other.pick_button.isEnabled(), timeout=30_000)
    assert panel.session.undo_stack.count() == 1
    assert panel.pick_button.isEnabled()
    assert other.pick_button.isEnabled()


def test_the_contrast_is_switched_by_its_box(panel, qtbot):
    layer = panel.session.layers.image("tomo")
    before = np.asarray(layer.data[10])
    assert not panel.tomograms.is_dark.isChecked()
    panel.tomograms.is_dark.click()
    assert panel.session.current.is_inverted
    np.testing.assert_array_equal(layer.data[10], -before)
    panel.display.invert.click()  # for the eye alone
    assert panel.session.current.is_inverted
    np.testing.assert_array_equal(layer.data[10], before)


def test_a_second_tomogram_is_seen_whole(panel, tomogram_file):
    camera = panel.session.viewer.scene.camera
    before = camera.zoom
    panel.tomograms.open_paths([tomogram_file("large", (30, 80, 96))])
    assert panel.session.viewer.dims.point[0] == pytest.approx(145, abs=5)
    np.testing.assert_allclose(camera.center[1:], [395, 475], atol=1)
    assert camera.zoom < 0.8 * before
    camera.zoom = 1
    panel.tomograms.open_paths([panel.session.current.path])  # open already
    assert camera.zoom == 1


def test_a_class_is_hidden_by_its_box_and_removed(panel, qtbot):
    add_class(panel, qtbot, "ring")
    add_class(panel, qtbot, "shell")
    session, table = panel.session, panel.classes.table
    labels = ["ring", "shell"]
    picks = Picks.create([[50, 50, 50], [90, 90, 90]], "tomo", label=labels)
    session.set_picks("tomo", picks)
    table.item(0, 0).setCheckState(Qt.CheckState.Unchecked)
    assert session.layers.points("tomo").shown.tolist() == [False, True]
    choose_class(panel, qtbot, "ring")
    qtbot.mouseClick(panel.classes.remove_button, LEFT)
    assert session.classes == ["shell"]
    assert panel.classes.current() is None
    assert not panel.classes.remove_button.isEnabled()
    assert session.new_label == ""


def test_a_label_is_saved_though_the_window_is_closed_at_once(panel, qtbot):
    from napari_ectkd.io.star import read_picks

    path = panel.session.folder / "tomo.star"
    panel.session.set_picks("tomo", Picks.create([[1, 2, 3]], "tomo", label="none"))
    panel.session.viewer.close()
    assert read_picks(path).label.tolist() == ["none"]


def test_buttons_that_cannot_work_say_why(make_napari_viewer):
    panel = PickPanel(make_napari_viewer())
    for button in (panel.pick_button, panel.by_hand, panel.save_button):
        assert not button.isEnabled()
        assert "Open a tomogram first" in button.toolTip()
    assert not panel.undo_button.isEnabled()


def test_star_files_are_loaded_and_saved(panel, tmp_path, some_picks, monkeypatch):
    from napari_ectkd.io.star import read_picks, write_picks

    path = tmp_path / "picks.star"
    write_picks(path, some_picks(), 10)
    panel.load_picks(path)
    assert panel.session.picks("tomo").label.tolist() == ["ring", "", "none", ""]
    saved = tmp_path / "saved.star"
    monkeypatch.setattr(
        "napari_ectkd.gui.pick_panel.QFileDialog.getSaveFileName",
        lambda *_: (str(saved), ""),
    )
    panel.load_picks(path)
    assert len(panel.session.picks("tomo")) == 4
    assert "4 were here already" in panel.said.text()
    write_picks(path, some_picks("another"), 10)
    panel.load_picks(path)
    assert "4 are of tomograms that are not open: another" in panel.said.text()
    panel.save_button.click()
    assert read_picks(saved).foreign.equals(some_picks().foreign)


def test_what_is_wrong_with_a_star_file_is_said_where_it_is_seen(
    panel, qtbot, tmp_path, some_picks, tomogram_file
):
    from napari_ectkd.io.star import write_picks

    panel.resize(panel.area.minimumWidth(), 240)
    panel.area.verticalScrollBar().setValue(0)
    path = tmp_path / "broken.star"
    path.write_text("no data block\n")
    panel.load_picks(path)
    assert "broken.star: not a STAR file" in panel.said.text()
    qtbot.waitUntil(lambda: not panel.said.visibleRegion().isEmpty())
    # Coordinates of another voxel size: they are taken, and the mistake is named.
    write_picks(path, some_picks(), 1)
    panel.load_picks(path, None)
    assert "outside" not in panel.said.text()
    far = some_picks()
    write_picks(path, replace(far, positions=far.positions * 20), 10)
    panel.load_picks(path)
    assert "4 lie outside of their tomogram" in panel.said.text()
    panel.undo_button.click()
    write_picks(path, some_picks(name=""), 10)
    panel.tomograms.open_paths([tomogram_file("second")])
    panel.load_picks(path)
    assert "4 name no tomogram" in panel.said.text()


def test_panels_of_a_window_share_a_session(panel):
    assert Session.of(panel.session.viewer) is panel.session


def test_hidden_picks_are_not_drawn_in_3d_either(panel):
    session, viewer = panel.session, panel.session.viewer
    places = [[100.0, 100, 100], [100.0, 300, 300]]
    session.set_picks("tomo", Picks.create(places, "tomo", label=["red", "blue"]))
    session.set_color("red", "#ff0000")
    session.set_color("blue", "#0000ff")
    session.layers.image("tomo").visible = False
    viewer.dims.ndisplay = 3

    def is_drawn():
        picture = viewer.screenshot().astype(int)
        difference = picture[..., 0] - picture[..., 2]
        return bool((difference > 60).any()), bool((difference < -60).any())

    assert is_drawn() == (True, True)
    session.set_hidden({"red"})
    assert is_drawn() == (False, True)
    session.set_hidden(set())
    assert is_drawn() == (True, True)
