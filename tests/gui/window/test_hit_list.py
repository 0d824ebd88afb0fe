"""Hits judged in a real window, by real clicks and keys."""

import numpy as np
import pandas as pd
import pytest
from qtpy.QtCore import Qt

from napari_ectkd.gui.classify_panel import ClassifyPanel
from napari_ectkd.gui.hit_list import order_of_hits
from napari_ectkd.gui.session import Session
from napari_ectkd.io.picks import Picks

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def hits(make_napari_viewer, tomogram_file, qtbot):
    viewer = make_napari_viewer(show=True)
    session = Session.of(viewer)
    session.open_tomogram(tomogram_file(), is_inverted=False)
    picks = Picks.create(
        [[30, 50, 60], [90, 150, 160], [120, 250, 260], [60, 90, 90]],
        "tomo",
        prediction=["ring", "shell", "ring", ""],
        confidence=[0.6, 0.9, 0.8, np.nan],
        pick_id=[4, 9, 2, 7],
    )
    session.set_picks("tomo", picks)
    panel = ClassifyPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Classify")
    viewer.window.resize(1200, 950)
    qtbot.wait(100)
    yield panel.hits
    session.save()


def click_row(hits, qtbot, row):
    place = hits.view.visualRect(hits.rows.index(row, 0)).center()
    qtbot.mouseClick(hits.view.viewport(), LEFT, pos=place)


def test_a_row_shows_its_place_and_is_judged_by_key(hits, qtbot):
    session = hits._session
    assert hits.rows.rowCount() == 3
    click_row(hits, qtbot, 0)
    assert session.viewer.dims.point[0] == pytest.approx(90, abs=5)
    assert session.layers.points("tomo").selected_data == {1}
    qtbot.keyClick(hits.view, Qt.Key.Key_A)  # the 0.9 shell, then goes on
    assert session.layers.points("tomo").selected_data == {2}
    qtbot.keyClick(hits.view, Qt.Key.Key_R)
    qtbot.keyClick(hits.view, Qt.Key.Key_2)
    assert session.picks("tomo").label.tolist() == ["shell", "shell", "none", ""]
    assert "1 accepted, 1 rejected, 1 relabeled, 0 to look at" in hits.counts.text()
    session.undo_stack.undo()
    assert session.picks("tomo").label.tolist() == ["", "shell", "none", ""]
    click_row(hits, qtbot, 1)
    qtbot.keyClick(hits.view, Qt.Key.Key_Backspace)
    assert session.picks("tomo").label.tolist() == ["", "shell", "", ""]


def test_buttons_judge_and_say_why_not(hits, qtbot):
    session = hits._session
    assert not hits.accept_button.isEnabled()
    assert "Choose a hit" in hits.accept_button.toolTip()
    click_row(hits, qtbot, 2)
    hits.label_choice.setValue("shell")
    qtbot.mouseClick(hits.relabel_button, LEFT)
    click_row(hits, qtbot, 1)
    qtbot.mouseClick(hits.reject_button, LEFT)
    qtbot.mouseClick(hits.accept_button, LEFT)
    assert session.picks("tomo").label.tolist() == ["shell", "shell", "none", ""]


def test_evidence_tells_apart_what_confidence_cannot():
    picks = Picks.create(
        np.zeros((4, 3)),
        prediction=["ring", "ring", "none", "ring"],
        confidence=[1.0, 1.0, 1.0, 0.4],
        foreign=pd.DataFrame({"rlnAutopickFigureOfMerit": [20.0, 30.0, 40.0, -0.4]}),
    )
    assert order_of_hits(picks).tolist() == [1, 0, 3]
