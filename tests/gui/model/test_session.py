import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from napari_ectkd.errors import ConfigError, VoxelSizeError
from napari_ectkd.gui.session import Session
from napari_ectkd.io.picks import Picks
from napari_ectkd.io.star import read_picks


def test_a_viewer_has_one_session(session, another_session):
    assert Session.of(session.viewer) is session
    assert another_session() is not session


def test_changes_are_on_the_disk_within_a_second(session, qtbot):
    path = session.folder / "tomo.star"
    session.points_layer("tomo").add([[1, 2, 3], [4, 5, 6]])
    qtbot.waitUntil(lambda: path.exists() and len(read_picks(path)) == 2, timeout=1000)
    session.assign("none", [1])
    qtbot.waitUntil(
        lambda: read_picks(path).label.tolist() == ["", "none"], timeout=1000
    )


def test_picks_classes_and_facts_are_there_again(session, some_picks, another_session):
    session.add_class("shell", "#123456")
    session.set_picks("tomo", some_picks())
    session.set_diameter(170)
    session.state(session.current.with_tilt_range((-50, 60)))
    assert session.save()
    again = another_session()
    tomogram = again.open_tomogram(session.current.path)
    assert len(again.picks("tomo")) == 4
    assert again.picks("tomo").label.tolist() == ["ring", "", "none", ""]
    assert again.classes == session.classes
    assert again.palette.color("shell") == "#123456"
    assert again.diameter == 170
    assert tomogram.tilt_range == (-50, 60)


def test_labels_survive_a_kill(tomogram_file, another_session):
    code = """
        import os, signal, sys
        from pathlib import Path
        from qtpy.QtCore import QTimer
        from qtpy.QtWidgets import QApplication
        from napari.components import ViewerModel
        from napari_ectkd.gui.session import Session
        app = QApplication([])
        viewer = ViewerModel()
        session = Session.of(viewer)
        session.open_tomogram(Path(sys.argv[1]), is_inverted=False)
        session.points_layer("tomo").add([[1, 2, 3]])
        session.assign("none", [0])
        session.said.connect(lambda text, _: os.kill(os.getpid(), signal.SIGKILL))
        QTimer.singleShot(20000, app.quit)
        app.exec()
    """
    path = tomogram_file()
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    again = another_session()
    again.open_tomogram(path)
    assert again.picks("tomo").label.tolist() == ["none"]


def test_a_broken_file_is_put_aside_and_said(tomogram_file, qtbot, another_session):
    path = tomogram_file()
    folder = path.parent / "ectkd"
    folder.mkdir()
    (folder / "tomo.star").write_text("not a star file")
    session = another_session()
    with qtbot.waitSignal(session.said, check_params_cb=lambda _, warns: warns):
        session.open_tomogram(path)
    session.points_layer("tomo").add([[1, 2, 3]])
    assert session.save()
    assert (folder / "tomo.star.broken").read_text() == "not a star file"


def test_a_failing_save_is_said_and_tried_again(session, qtbot, monkeypatch):
    from napari_ectkd.errors import WriteError
    from napari_ectkd.gui import storage

    def fail(*_):
        raise WriteError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(storage, "write_picks", fail)
        session.points_layer("tomo").add([[1, 2, 3]])
        with qtbot.waitSignal(session.said) as said:
            assert not session.save()
        assert "the disk is full" in said.args[0]
    assert session.save()
    assert len(read_picks(session.folder / "tomo.star")) == 1


def test_undo_and_redo_of_each_kind_of_change(session, some_picks):
    layer = session.points_layer("tomo")
    states = [session.picks("tomo")]

    def changed():
        states.append(session.picks("tomo"))

    layer.add([[1, 2, 3], [4, 5, 6]])
    changed()
    layer.data = layer.data + 1
    changed()
    session.assign("none", [0])
    changed()
    layer.selected_data = {1}
    layer.remove_selected()
    changed()
    session.set_picks("tomo", some_picks(), "load picks")
    changed()
    for expected in reversed(states[:-1]):
        session.undo()
        assert session.picks("tomo") is expected
        assert len(layer.data) == len(expected)
    assert not session.undo_stack.canUndo()
    for expected in states[1:]:
        session.redo()
        assert session.picks("tomo") is expected
    assert list(layer.features["label"]) == some_picks().label.tolist()


def test_predictions_never_touch_labels_or_later_changes(session, some_picks):
    session.set_picks("tomo", some_picks())
    asked = session.picks("tomo")
    layer = session.points_layer("tomo")
    layer.selected_data = {1}
    layer.remove_selected()
    layer.add([1.0, 1.0, 1.0])
    table = pd.DataFrame(np.eye(2)[[0, 1, 0, 1]], columns=["ring", "shell"])
    n = session.merge_predictions(asked.with_predictions(table))
    found = session.picks("tomo")
    assert n == 3
    assert found.prediction.tolist() == ["ring", "ring", "shell", ""]
    assert found.label.tolist() == ["ring", "none", "", ""]
    assert "shell" in session.classes


def test_two_tomograms_share_classes_and_show_one(session, tomogram_file):
    session.add_class("ring")
    session.open_tomogram(tomogram_file("other"), is_inverted=False)
    session.points_layer("other").add([[1, 2, 3]])
    session.assign("ring", [0])
    assert session.current.name == "other"
    visible = {layer.name: layer.visible for layer in session.viewer.layers}
    assert visible == {
        "tomo": False,
        "tomo picks": False,
        "other": True,
        "other picks": True,
    }
    assert session.all_picks().tomogram.tolist() == ["other"]
    star, tomograms = session.write_inputs()
    assert read_picks(star).label.tolist() == ["ring"]
    assert "other.mrc" in tomograms.read_text()


def test_classes_are_renamed_and_removed_with_their_labels(session, some_picks):
    session.set_picks("tomo", some_picks())
    color = session.palette.color("ring")
    session.rename_class("ring", "torus")
    assert session.picks("tomo").label.tolist() == ["torus", "", "none", ""]
    assert session.palette.color("torus") == color
    session.remove_class("torus")
    assert session.picks("tomo").label.tolist() == ["", "", "none", ""]
    for name in ("", "none", "unknown"):
        with pytest.raises(ConfigError):
            session.add_class(name)


def test_deleting_the_points_layer_keeps_the_picks(session, qtbot, some_picks):
    session.set_picks("tomo", some_picks())
    session.viewer.layers.remove(session.points_layer("tomo"))
    qtbot.waitUntil(lambda: session.points_layer("tomo") is not None)
    assert len(session.points_layer("tomo").data) == 4
    assert len(session.picks("tomo")) == 4


def test_removing_all_layers_closes_the_tomogram_and_loses_nothing(
    session, qtbot, some_picks
):
    path = session.current.path
    session.set_picks("tomo", some_picks())
    session.viewer.layers.clear()
    qtbot.waitUntil(lambda: not session.tomograms)
    assert session.current is None
    assert len(read_picks(session.folder / "tomo.star")) == 4
    session.open_tomogram(path)
    assert len(session.picks("tomo")) == 4


def test_a_voxel_size_that_is_not_known_must_be_said(
    session, tomogram_file, another_session
):
    path = tomogram_file("bare", voxel_size=0)
    with pytest.raises(VoxelSizeError):
        session.open_tomogram(path)
    assert session.open_tomogram(path, voxel_size=12).voxel_size == 12
    session.save()
    again = another_session()
    assert again.open_tomogram(path).voxel_size == 12


def test_contrast_is_stated_once_and_kept(session, another_session):
    plane = np.asarray(session.image_layer("tomo").data[5])
    session.state(session.current.with_contrast(is_inverted=True))
    np.testing.assert_array_equal(session.image_layer("tomo").data[5], -plane)
    assert not session.current.contrast_is_guessed
    session.save()
    again = another_session()
    assert again.open_tomogram(session.current.path).is_inverted


def test_two_files_of_one_name_are_refused(session, tomogram_file, tmp_path):
    other = tmp_path / "elsewhere"
    other.mkdir()
    path = other / "tomo.mrc"
    path.write_bytes(session.current.path.read_bytes())
    with pytest.raises(ConfigError, match="open already"):
        session.open_tomogram(path)


def test_a_drag_is_one_step_to_undo(session):
    layer = session.points_layer("tomo")
    layer.add([[1, 2, 3]])
    before = session.picks("tomo")
    for _ in range(3):
        layer.data = layer.data + 1
    session.undo()
    assert session.picks("tomo") is before


def test_picks_of_other_shapes_are_drawn_around_the_slice(session):
    session.set_diameter(120)
    assert tuple(session.viewer.dims.thickness) == (120.0,) * 3
    moved = replace(Picks.create([[100, 50, 50]], "tomo"))
    session.set_picks("tomo", moved)
    assert session.points_layer("tomo").size.tolist() == [12.0]
