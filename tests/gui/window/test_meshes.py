"""Particles drawn as their densities in a real window."""

import mrcfile
import numpy as np
from qtpy.QtCore import QPoint, Qt

from napari_ectkd.gui.classify_panel import ClassifyPanel
from napari_ectkd.gui.session import Session
from napari_ectkd.io.picks import Picks


def test_a_particle_is_seen_in_3d_in_its_color(
    make_napari_viewer, qtbot, tomogram_file, tmp_path, monkeypatch
):
    with mrcfile.new(tmp_path / "ring.mrc") as mrc:
        offsets = np.indices((15, 15, 15)) - 7
        mrc.set_data((np.linalg.norm(offsets, axis=0) < 5).astype(np.float32))
        mrc.voxel_size = 10.0
    viewer = make_napari_viewer(show=True)
    session = Session.of(viewer)
    session.open_tomogram(tomogram_file(), is_inverted=False)
    session.set_picks("tomo", Picks.create([[100.0, 200, 240]], "tomo", label="ring"))
    session.set_color("ring", "#ff0000")
    panel = ClassifyPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Classify")
    form = panel.densities
    panel.area.ensureWidgetVisible(form)
    middle = QPoint(8, form.box.height() // 2)
    qtbot.mouseClick(form.box, Qt.MouseButton.LeftButton, pos=middle)
    monkeypatch.setattr(
        "napari_ectkd.gui.mesh_form.QFileDialog.getOpenFileNames",
        lambda *_: ([str(tmp_path / "ring.mrc")], ""),
    )
    qtbot.mouseClick(form.choose_button, Qt.MouseButton.LeftButton)
    for layer in viewer.layers:
        layer.visible = False
    viewer.dims.ndisplay = 3
    qtbot.waitUntil(lambda: "1 particles are" in form.text.text(), timeout=30_000)
    picture = viewer.screenshot(canvas_only=True, flash=False).astype(int)
    is_red = (picture[..., 0] > 60) & (picture[..., 1:3].max(axis=-1) < 20)
    assert 0.005 < is_red.mean() < 0.5
    session.save()
    viewer.close()
