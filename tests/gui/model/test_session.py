import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from napari_ectkd.errors import ConfigError, VoxelSizeError
from napari_ectkd.gui.filter_form import FilterForm
from napari_ectkd.gui.session import Session
from napari_ectkd.io.picks import Picks
from napari_ectkd.io.star import read_picks
from napari_ectkd.io.tomogram_list import open_tomograms


def test_a_viewer_has_one_session(session, another_session):
    assert Session.of(session.viewer) is session
    assert another_session() is not session


def test_changes_are_on_the_disk_within_a_second(session, qtbot):
    path = session.folder / "tomo.star"
    session.layers.points("tomo").add([[1, 2, 3], [4, 5, 6]])
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


def test_thresholds_are_there_again(session, some_picks, another_session):
    session.set_picks("tomo", some_picks())
    session.set_overlay(min_confidence=0.7)
    session.set_overlay(cuts={"shell": 1.5})
    session.set_overlay(is_faded=False)  # a matter of the moment
    assert session.save()
    again = another_session()
    form = FilterForm(again)
    again.open_tomogram(session.current.path)
    assert (again.overlay.min_confidence, again.overlay.cuts) == (0.7, {"shell": 1.5})
    assert again.overlay.is_faded
    assert form.confidence.value() == 0.7


def test_a_project_of_an_earlier_version_has_no_thresholds(session, another_session):
    session.add_class("shell")
    assert session.save()
    [path] = session.folder.glob("classes.json")
    facts = json.loads(path.read_text())
    del facts["min_confidence"], facts["cuts"]
    path.write_text(json.dumps(facts))
    again = another_session()
    again.open_tomogram(session.current.path)
    assert again.classes == ["shell"]
    assert (again.overlay.min_confidence, again.overlay.cuts) == (0, {})


def test_who_holds_the_palette_sees_the_colors_of_a_project(session, another_session):
    session.add_class("shell", "#123456")
    assert session.save()
    again = another_session()
    held = again.palette  # as panels do that are open before the first tomogram
    again.open_tomogram(session.current.path)
    assert held.color("shell") == "#123456"
    again.set_color("shell", "#654321")
    assert held.color("shell") == "#654321"


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
        session.layers.points("tomo").add([[1, 2, 3]])
        session.assign("none", [0])
        session.saved.connect(lambda text, _: os.kill(os.getpid(), signal.SIGKILL))
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
    session.layers.points("tomo").add([[1, 2, 3]])
    assert session.save()
    assert (folder / "tomo.star.broken").read_text() == "not a star file"


def test_a_second_broken_file_leaves_the_first_one_be(tomogram_file, another_session):
    path = tomogram_file()
    folder = path.parent / "ectkd"
    folder.mkdir()
    (folder / "tomo.star").write_text("broken again")
    (folder / "tomo.star.broken").write_text("broken before")
    another_session().open_tomogram(path)
    assert (folder / "tomo.star.broken").read_text() == "broken before"
    assert (folder / "tomo.star.broken1").read_text() == "broken again"


@pytest.mark.parametrize("name", ["classes.json", "tomograms.json"])
def test_broken_lists_are_put_aside_and_saving_goes_on(
    tomogram_file, another_session, name
):
    path = tomogram_file()
    folder = path.parent / "ectkd"
    folder.mkdir()
    (folder / name).write_text("[{")
    session = another_session()
    session.open_tomogram(path)
    assert session.save()
    assert (folder / f"{name}.broken").read_text() == "[{"


def test_a_project_that_was_copied_knows_its_tomograms_at_their_new_place(
    tomogram_file, another_session, some_picks, tmp_path
):
    path = tomogram_file()
    session = another_session()
    session.open_tomogram(path)
    session.set_picks("tomo", some_picks())
    assert session.save()
    (tmp_path / "copy").mkdir()
    shutil.copytree(tmp_path / "ectkd", tmp_path / "copy" / "ectkd")
    moved = shutil.copy(path, tmp_path / "copy")
    again = another_session()
    again.open_tomogram(Path(moved))
    picks, tomograms = again.write_inputs()
    assert len(read_picks(picks)) == 2
    [tomogram] = open_tomograms([tomograms], ["tomo"]).values()
    assert tomogram.path == Path(moved)


def test_where_picks_are_saved_is_said_of_each_folder(
    tomogram_file, another_session, tmp_path, monkeypatch
):
    import platformdirs

    monkeypatch.setattr(platformdirs, "user_data_path", lambda _: tmp_path / "home")
    session = another_session()
    said = []
    session.saved.connect(lambda text, _: said.append(text))
    session.open_tomogram(tomogram_file())
    (tmp_path / "full").mkdir()
    other = shutil.move(tomogram_file("other"), tmp_path / "full")
    (tmp_path / "full" / "ectkd").write_text("a file, where the folder should be")
    session.open_tomogram(Path(other))
    assert session.save()
    assert said[-1].startswith(f"Saved in {tmp_path / 'ectkd'} and {tmp_path / 'home'}")


def test_without_a_folder_beside_it_picks_go_to_the_users_own(
    tomogram_file, another_session, tmp_path, monkeypatch
):
    import platformdirs

    monkeypatch.setattr(platformdirs, "user_data_path", lambda _: tmp_path / "home")
    path = tomogram_file(voxel_size=0)
    (tmp_path / "ectkd").write_text("a file, where the folder should be")
    session = another_session()
    session.open_tomogram(path, voxel_size=12)
    session.layers.points("tomo").add([[1, 2, 3]])
    assert session.save()
    assert session.folder.parent == tmp_path / "home"
    again = another_session()
    assert again.open_tomogram(path).voxel_size == 12
    assert len(again.picks("tomo")) == 1


def test_a_folder_that_cannot_be_made_is_said_and_tried_again(
    tomogram_file, another_session, tmp_path, monkeypatch, qtbot
):
    import platformdirs

    closed = tmp_path / "closed"
    closed.write_text("a file")
    (tmp_path / "ectkd").write_text("a file")
    monkeypatch.setattr(platformdirs, "user_data_path", lambda _: closed)
    monkeypatch.setattr("napari_ectkd.gui.autosave.RETRY_MS", 20)
    session = another_session()
    with qtbot.waitSignal(session.saved) as saved:
        session.open_tomogram(tomogram_file())
        session.layers.points("tomo").add([[1, 2, 3]])
    assert "NOT saved" in saved.args[0]
    with qtbot.waitSignal(session.saved, check_params_cb=lambda _, warns: not warns):
        closed.unlink()
    assert len(read_picks(session.folder / "tomo.star")) == 1


def test_picks_of_a_closed_tomogram_are_saved_when_there_is_room(
    session, monkeypatch, another_session
):
    from napari_ectkd.errors import WriteError
    from napari_ectkd.gui import storage

    def fail(*_):
        raise WriteError("the disk is full")

    path = session.current.path
    session.layers.points("tomo").add([[1, 2, 3]])
    with monkeypatch.context() as broken:
        broken.setattr(storage, "write_picks", fail)
        session.viewer.layers.clear()
        session.open_tomogram(path)
        assert len(session.picks("tomo")) == 1
        session.viewer.layers.clear()
    assert session.save()
    again = another_session()
    again.open_tomogram(path)
    assert len(again.picks("tomo")) == 1


def test_unsaved_picks_outlive_another_tomogram_of_the_same_name(
    session, tomogram_file, tmp_path, monkeypatch, another_session
):
    from napari_ectkd.errors import WriteError
    from napari_ectkd.gui import storage

    def fail(*_):
        raise WriteError("the disk is full")

    first = session.current.path
    other = tmp_path / "elsewhere"
    other.mkdir()
    second = other / first.name
    second.write_bytes(first.read_bytes())
    session.layers.points("tomo").add([[1, 2, 3]])
    with monkeypatch.context() as broken:
        broken.setattr(storage, "write_picks", fail)
        session.viewer.layers.clear()
        session.open_tomogram(second, is_inverted=False)
        session.layers.points("tomo").add([[4, 5, 6], [7, 8, 9]])
        assert not session.save()
    assert session.save()
    for path, n in ((first, 1), (second, 2)):
        again = another_session()
        again.open_tomogram(path)
        assert len(again.picks("tomo")) == n


def test_each_tomogram_has_its_picks_beside_it(
    session, tomogram_file, tmp_path, another_session
):
    other = tmp_path / "elsewhere"
    other.mkdir()
    path = tomogram_file("other").rename(other / "other.mrc")
    session.open_tomogram(path, is_inverted=True)
    session.add_class("ring", "#123456")
    session.layers.points("other").add([[1, 2, 3]])
    session.assign("ring", [0])
    assert session.save()
    again = another_session()
    assert again.open_tomogram(path).is_inverted
    assert again.picks("other").label.tolist() == ["ring"]
    assert again.palette.color("ring") == "#123456"
    assert list(again.tomograms) == ["other"]


def test_nothing_is_lost_when_a_viewer_goes(tomogram_file, qtbot):
    import gc

    from napari.components import ViewerModel

    viewer = ViewerModel()
    path = tomogram_file()
    Session.of(viewer).open_tomogram(path)
    Session.of(viewer).layers.points("tomo").add([[1, 2, 3]])
    del viewer
    gc.collect()
    assert len(read_picks(path.parent / "ectkd" / "tomo.star")) == 1


def test_a_failing_save_is_said_and_tried_again(session, qtbot, monkeypatch):
    from napari_ectkd.errors import WriteError
    from napari_ectkd.gui import storage

    def fail(*_):
        raise WriteError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(storage, "write_picks", fail)
        session.layers.points("tomo").add([[1, 2, 3]])
        with qtbot.waitSignal(session.saved) as said:
            assert not session.save()
        assert "the disk is full" in said.args[0]
    assert session.save()
    assert len(read_picks(session.folder / "tomo.star")) == 1


def test_undo_and_redo_of_each_kind_of_change(session, some_picks):
    layer = session.layers.points("tomo")
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
    nearby = Picks.create([[500.0, 5, 5]], "tomo")
    assert session.book.join("tomo", nearby, "pick automatically", 90) == 1
    changed()
    table = pd.DataFrame(np.eye(2)[[0, 1, 0, 1, 0]], columns=["ring", "shell"])
    session.book.merge_predictions(session.picks("tomo").with_predictions(table))
    changed()
    for expected in reversed(states[:-1]):
        session.undo_stack.undo()
        assert session.picks("tomo") is expected
        assert len(layer.data) == len(expected)
    assert not session.undo_stack.canUndo()
    for expected in states[1:]:
        session.undo_stack.redo()
        assert session.picks("tomo") is expected
    assert list(layer.features["label"]) == [*some_picks().label, ""]


def test_predictions_never_touch_labels_or_later_changes(session, some_picks):
    session.set_picks("tomo", some_picks())
    asked = session.picks("tomo")
    layer = session.layers.points("tomo")
    layer.selected_data = {1}
    layer.remove_selected()
    layer.add([1.0, 1.0, 1.0])
    table = pd.DataFrame(np.eye(2)[[0, 1, 0, 1]], columns=["ring", "shell"])
    n = session.book.merge_predictions(asked.with_predictions(table))
    found = session.picks("tomo")
    assert n == 3
    assert found.prediction.tolist() == ["ring", "ring", "shell", ""]
    assert found.label.tolist() == ["ring", "none", "", ""]
    assert "shell" in session.classes


def test_two_tomograms_share_classes_and_show_one(session, tomogram_file):
    session.add_class("ring")
    session.open_tomogram(tomogram_file("other"), is_inverted=False)
    session.layers.points("other").add([[1, 2, 3]])
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


def test_a_renamed_class_is_so_in_predictions_and_in_the_past(session, some_picks):
    session.set_picks("tomo", some_picks(), "load picks")
    session.assign("none", [1])
    session.set_hidden({"ring"})
    session.set_new_label("ring")
    session.rename_class("ring", "torus")
    assert session.classes == ["torus", "shell"]
    assert "ring" not in session.picks("tomo").prediction
    assert (session.hidden, session.new_label) == ({"torus"}, "torus")
    session.undo_stack.undo()
    assert session.picks("tomo").label.tolist() == ["torus", "", "none", ""]
    assert session.classes == ["torus", "shell"]


def test_a_removed_class_is_gone_until_that_is_undone(session, some_picks):
    session.set_picks("tomo", some_picks())
    session.set_new_label("ring")
    session.remove_class("ring")
    assert session.classes == ["shell"]
    assert session.new_label == ""
    assert "ring" not in session.picks("tomo").prediction
    session.layers.points("tomo").add([1.0, 1.0, 1.0])
    assert session.classes == ["shell"]
    session.undo_stack.undo()
    session.undo_stack.undo()
    assert session.picks("tomo").label.tolist() == ["ring", "", "none", ""]
    assert session.classes == ["shell", "ring"]


def test_a_tomogram_shown_twice_is_closed_with_its_last_image(session):
    from napari_ectkd.gui.layers import add_tomogram_layer

    layer = add_tomogram_layer(session.viewer, session.current)
    session.viewer.layers.remove(layer)
    assert list(session.tomograms) == ["tomo"]
    session.viewer.layers.remove(session.layers.image("tomo"))
    assert not session.tomograms


def test_deleting_the_points_layer_keeps_the_picks(session, qtbot, some_picks):
    session.set_picks("tomo", some_picks())
    session.viewer.layers.remove(session.layers.points("tomo"))
    qtbot.waitUntil(lambda: session.layers.points("tomo") is not None)
    assert len(session.layers.points("tomo").data) == 4
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
    plane = np.asarray(session.layers.image("tomo").data[5])
    session.state(session.current.with_contrast(is_inverted=True))
    np.testing.assert_array_equal(session.layers.image("tomo").data[5], -plane)
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
    layer = session.layers.points("tomo")
    layer.add([[1, 2, 3]])
    before = session.picks("tomo")
    for _ in range(3):
        layer.data = layer.data + 1
    session.undo_stack.undo()
    assert session.picks("tomo") is before


def test_picks_of_other_shapes_are_drawn_around_the_slice(session):
    session.set_diameter(120)
    assert tuple(session.viewer.dims.thickness) == (120.0,) * 3
    moved = replace(Picks.create([[100, 50, 50]], "tomo"))
    session.set_picks("tomo", moved)
    assert session.layers.points("tomo").size.tolist() == [12.0]


def test_picks_of_all_tomograms_follow_each_change(session, some_picks, tomogram_file):
    session.open_tomogram(tomogram_file("other"), is_inverted=False)
    session.set_picks("tomo", some_picks())
    session.set_picks("other", some_picks("other"), "load")
    joined = session.all_picks()
    assert sorted(set(joined.tomogram)) == ["other", "tomo"]
    assert len(joined) == len(set(joined.pick_id)) == 8
    assert session.all_picks() is joined
    session.set_current("other")
    session.assign("shell", [1])
    assert session.all_picks().in_tomogram("other").label[1] == "shell"
    session.undo_stack.undo()
    assert session.all_picks().in_tomogram("other").label[1] == ""
