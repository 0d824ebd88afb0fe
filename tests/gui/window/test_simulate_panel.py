"""Simulating in a real window, by real clicks and with the true worker."""

from pathlib import Path

import mrcfile
import numpy as np
import pytest
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent

from napari_ectkd.gui.simulate_panel import SimulatePanel
from napari_ectkd.gui.studio import StudioPanel
from napari_ectkd.io.stacks import open_stacks
from napari_ectkd.simulation.settings_file import read_settings

LEFT = Qt.MouseButton.LeftButton
LONG = 60_000


@pytest.fixture
def panel(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    panel = SimulatePanel(viewer)
    viewer.window.add_dock_widget(panel, name="Simulate")
    viewer.window.resize(1200, 800)
    qtbot.waitUntil(lambda: is_drawn(panel), timeout=LONG)
    yield panel
    qtbot.waitUntil(lambda: not panel.maker.is_active, timeout=LONG)


def is_drawn(panel):
    """Whether the preview is of the settings that are shown."""
    is_idle = not panel.maker.is_active and not panel._pause.isActive()
    return is_idle and bool(panel.preview.pictures)


def pixels(label):
    image = label.pixmap().toImage()
    points = range(0, image.width(), 3)
    return np.array([[image.pixelColor(x, y).red() for x in points] for y in points])


def set_small(form):
    for name, value in {"box": 24, "voxel_size": 14.0, "per_class": 2}.items():
        form.editors[name].setValue(value)


def test_the_preview_follows_the_settings(panel, qtbot):
    assert list(panel.preview.pictures)[-1] == "none"
    assert panel.densities.table.rowCount() == 7
    noisy = pixels(panel.preview.pictures["shell"][0])
    qtbot.mouseClick(panel.preview.with_noise, LEFT, pos=QPointF(8, 8).toPoint())
    clean = pixels(panel.preview.pictures["shell"][0])
    # Far from the particle a clean slice is flat, a noisy one is not.
    assert clean[:4].std() < noisy[:4].std() / 2
    form = panel.forms["subtomograms"]
    editor = form.editors["none"]
    editor.setFocus()
    editor.selectAll()
    qtbot.keyClicks(editor, "0")
    qtbot.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: "none" not in panel.preview.pictures, timeout=LONG)
    # What is typed now replaces what is being drawn.
    form.editors["box"].setValue(20)
    form.editors["box"].setValue(8)
    qtbot.waitUntil(lambda: "outside" in panel.densities.problem.text(), timeout=LONG)
    assert panel.densities.problem.isVisible()


def test_densities_are_dropped_named_and_removed(panel, qtbot, tmp_path):
    z, y, x = np.indices((24, 24, 24)) - 12
    for name, radius in (("small", 4), ("large", 7)):
        with mrcfile.new(tmp_path / f"{name}.mrc") as mrc:
            ball = (z**2 + y**2 + x**2 < radius**2).astype(np.float32)
            mrc.set_data(ball)
            mrc.voxel_size = 10.0
    (tmp_path / "text.txt").write_text("no density")
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(tmp_path / f"{n}.mrc")) for n in ("small",)])
    drop(panel.densities, mime)
    assert [path.name for path in panel.densities.value()] == ["small.mrc"]
    panel.densities.add([tmp_path])
    assert {path.name for path in panel.densities.value()} == {"small.mrc", "large.mrc"}
    qtbot.waitUntil(
        lambda: "large" in panel.preview.pictures and is_drawn(panel), timeout=LONG
    )
    table = panel.densities.table
    widths = {
        table.item(row, 0).text(): table.item(row, 1).text()
        for row in range(table.rowCount())
    }
    assert widths["small"] in ("8 voxels", "9 voxels")
    rows = [table.item(row, 0).text() for row in range(2)]
    cell = table.visualItemRect(table.item(rows.index("small"), 0)).center()
    qtbot.mouseClick(table.viewport(), LEFT, pos=cell)
    qtbot.mouseClick(panel.densities.remove_button, LEFT)
    assert [path.name for path in panel.densities.value()] == ["large.mrc"]
    panel.densities.add([tmp_path / "text.txt"])
    assert "not a density" in panel.densities.problem.text()
    assert [path.name for path in panel.densities.value()] == ["large.mrc"]


def drop(widget, mime):
    """Drop as Qt would: it gives such events to a widget only while the mouse drags."""
    place = QPointF(5, 5)
    how = (mime, LEFT, Qt.KeyboardModifier.NoModifier)
    entering = QDragEnterEvent(place.toPoint(), Qt.DropAction.CopyAction, *how)
    widget.dragEnterEvent(entering)
    assert entering.isAccepted()
    widget.dropEvent(QDropEvent(place, Qt.DropAction.CopyAction, *how))


def test_a_button_that_cannot_work_says_why(panel):
    panel.out.setText("")
    assert not panel.start_button.isEnabled()
    assert "where" in panel.start_button.toolTip()
    panel.what.setValue("tomogram")
    panel.out.setText("here.txt")
    assert "written as .mrc" in panel.start_button.toolTip()
    panel.out.setText("here.mrc")
    assert panel.start_button.isEnabled()


def test_what_was_set_is_kept_for_the_other_kind(panel):
    panel.forms["subtomograms"].editors["snr"].setValue(0.42)
    panel.what.setValue("tomogram")
    assert panel.forms["tomogram"].value().snr == 0.42
    assert panel.forms["tomogram"].value().per_class is None
    # Neither a number nor a share of the volume: it is said what is missing.
    panel.forms["tomogram"].editors["volume_fraction"].setValue(None)
    assert "how many particles" in panel.start_button.toolTip()
    assert panel.preview.note.isHidden()


def test_a_data_set_and_a_tomogram_are_made(make_napari_viewer, qtbot, tmp_path):
    viewer = make_napari_viewer(show=True)
    studio = StudioPanel(viewer)
    viewer.window.add_dock_widget(studio, name="Studio")
    panel = studio.simulate
    studio.tabs.setCurrentWidget(panel)
    set_small(panel.forms["subtomograms"])
    panel.forms["subtomograms"].editors["none"].setValue(2)
    panel.out.setText(str(tmp_path / "set"))
    with qtbot.waitSignal(panel.job.ended, timeout=LONG):
        qtbot.mouseClick(panel.start_button, LEFT)
        assert not panel.start_button.isEnabled()
    assert "16 subtomograms" in panel.status.message.text()
    info, volumes, _ = open_stacks(tmp_path / "set")
    assert (info.box, len(volumes)) == (24, 16)
    qtbot.mouseClick(panel.train_button, LEFT)
    assert studio.tabs.currentWidget() is studio.train
    assert studio.train.data.files.value() == [tmp_path / "set"]
    assert studio.train.data.problem() == ""

    studio.tabs.setCurrentWidget(panel)
    qtbot.mouseClick(panel.stream_button, LEFT)
    assert studio.tabs.currentWidget() is studio.train
    assert studio.train.data.problem() == ""
    data = studio.train.data.write(tmp_path / "run")
    assert data.stream == tmp_path / "set.json"
    assert read_settings(data.stream).voxel_size == 14.0

    studio.tabs.setCurrentWidget(panel)
    panel.what.setValue("tomogram")
    set_small(panel.forms["tomogram"])
    panel.forms["tomogram"].editors["shape"].setValue((48, 96, 96))
    panel.forms["tomogram"].editors["per_class"].setValue(1)
    panel.forms["tomogram"].editors["volume_fraction"].setValue(None)
    panel.with_labels.setChecked(True)
    panel.out.setText(str(tmp_path / "made.mrc"))
    with qtbot.waitSignal(panel.job.ended, timeout=LONG):
        qtbot.mouseClick(panel.start_button, LEFT)
    assert panel.session.current.path == Path(tmp_path / "made.mrc")
    picks = panel.session.picks("made")
    assert len(picks) == 7
    assert (picks.label != "").all()
    with mrcfile.open(tmp_path / "made-labels.mrc") as mrc:
        assert set(np.unique(mrc.data)) == set(range(8))
    qtbot.waitUntil(lambda: not panel.maker.is_active, timeout=LONG)
    panel.session.save()
