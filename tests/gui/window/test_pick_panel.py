"""Picking and labeling in a real window, by real clicks and keys."""

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
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


def click_at(panel, qtbot, position):
    """Click on a position in Å of the slice that is shown."""
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
    qtbot.mouseClick(widget, LEFT, pos=point)
    return widget


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
    layer = session.points_layer("tomo")
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
    assert "no voxel size" in form.question_text.text()
    form.voxel_size.setValue(7.5)
    qtbot.mouseClick(form.answer_button, LEFT)
    assert not form.question.isVisible()
    assert panel.session.current.name == "bare"
    assert panel.session.current.voxel_size == 7.5
    assert form.chooser.count() == 2


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
    panel.save_button.click()
    assert read_picks(saved).foreign.equals(some_picks().foreign)


def test_panels_of_a_window_share_a_session(panel):
    assert Session.of(panel.session.viewer) is panel.session
