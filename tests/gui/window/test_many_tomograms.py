"""Many tomograms from the window, by the worker that users have."""

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt

from napari_ectkd.gui.classify_panel import ClassifyPanel
from napari_ectkd.gui.open_jobs import Jobs
from napari_ectkd.gui.session import Session
from napari_ectkd.io.picks import Picks
from napari_ectkd.io.star import read_picks
from napari_ectkd.prediction.manifest import read_manifest

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def folder(tomogram_file, tmp_path):
    """Make a folder of three tomograms; the second is none."""
    for name in ("a", "b", "c"):
        tomogram_file(name, shape=(40, 64, 72))
    (tmp_path / "b.mrc").write_bytes(b"no tomogram")
    return tmp_path


@pytest.fixture
def panel(make_napari_viewer, folder):
    viewer = make_napari_viewer(show=True)
    session = Session.of(viewer)
    session.open_tomogram(folder / "a.mrc", is_inverted=False)
    panel = ClassifyPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Classify")
    yield panel
    Jobs.of(viewer).stop_all()
    session.save()


def start(panel, qtbot):
    assert panel.start_button.isEnabled(), panel.start_button.toolTip()
    with qtbot.waitSignal(panel.job.ended, timeout=60_000):
        qtbot.mouseClick(panel.start_button, LEFT)
    return panel.status.message.text()


def states(panel):
    model = panel.table.view.model()
    rows = range(model.rowCount())
    return {
        model.index(i, 0).data(): (model.index(i, 1).data(), model.index(i, 2).data())
        for i in rows
    }


def click_row(panel, qtbot, row, *, double=False):
    panel.area.ensureWidgetVisible(panel.table)
    view = panel.table.view
    at = view.visualRect(view.model().index(row, 0)).topLeft() + QPoint(5, 5)
    qtbot.mouseClick(view.viewport(), LEFT, pos=at)
    if double:
        qtbot.mouseDClick(view.viewport(), LEFT, pos=at)


def test_files_are_swept_by_one_worker_and_opened_from_the_table(
    panel, qtbot, write_model, folder
):
    session = panel.session
    panel.model.setValue(write_model("compact"))
    panel.what.setValue("sweep")
    panel.tomograms.scope.setValue("files")
    assert "Choose files" in panel.start_button.toolTip()
    panel.tomograms.choose([folder])
    assert "3 tomograms" in panel.tomograms.text.text()
    seen = set()
    panel.batch.changed.connect(
        lambda: seen.update((name, state) for name, (state, _) in states(panel).items())
    )
    said = start(panel, qtbot)
    assert "1 of 3 tomograms failed" in said
    assert {("c", "waiting"), ("a", "done"), ("b", "failed")} <= seen
    assert any(n == "a" and s.startswith("at work") for n, s in seen)
    out = folder / "ectkd" / "results" / "sweep-compact"
    found = {e.name: e.n for e in read_manifest(out).tomograms}
    assert states(panel) == {
        "a": ("done", str(found["a"])),
        "b": ("failed", ""),
        "c": ("done", str(found["c"])),
    }
    assert len(session.picks("a")) == found["a"] > 3  # it is open: taken at once
    click_row(panel, qtbot, 1)
    assert "b failed: b.mrc" in panel.table.about.text()
    assert "b failed" in panel.table.rows.index(1, 1).data(Qt.ItemDataRole.ToolTipRole)

    click_row(panel, qtbot, 2, double=True)
    assert session.current.name == "c"
    hits = read_picks(out / "c.star")
    np.testing.assert_allclose(session.picks("c").positions, hits.positions, atol=1e-3)
    # What is deleted after it was taken does not come back by looking again.
    session.set_picks("c", session.picks("c")[1:])
    click_row(panel, qtbot, 2, double=True)
    assert len(session.picks("c")) == len(hits) - 1

    # A second start does what is missing or changed, and says so.
    before = {e.name: e.seconds for e in read_manifest(out).tomograms}
    (folder / "b.mrc").write_bytes((folder / "a.mrc").read_bytes())
    label = session.picks("a").with_labels("shell")
    session.set_picks("a", label)
    assert "Nothing had changed in 2 of them" in start(panel, qtbot)
    after = {e.name: e.seconds for e in read_manifest(out).tomograms}
    assert (after["a"], after["c"]) == (before["a"], before["c"])
    assert states(panel)["b"] == ("done", str(found["a"]))
    assert (session.picks("a").label == "shell").all()  # no label is lost or doubled
    assert len(session.picks("a")) == found["a"]


def test_results_of_an_earlier_day_are_listed_again(
    panel, qtbot, write_model, folder, make_napari_viewer
):
    model = write_model("compact")
    panel.model.setValue(model)
    panel.what.setValue("sweep")
    panel.tomograms.choose([folder / "a.mrc", folder / "c.mrc"])
    start(panel, qtbot)
    assert panel.session.overlay.diameters == {"ring": 60, "shell": 60}  # the model's
    panel.session.set_overlay(min_confidence=0.35, diameters={"ring": 90.0})
    assert panel.session.save()
    viewer = make_napari_viewer(show=True)
    later = ClassifyPanel(viewer)
    viewer.window.add_dock_widget(later, name="Classify")
    later.model.setValue(model)
    later.what.setValue("sweep")
    later.tomograms.choose([folder / "a.mrc", folder / "c.mrc"])
    assert {n: s for n, (s, _) in states(later).items()} == {"a": "done", "c": "done"}
    later.table.choose("c")
    later.area.ensureWidgetVisible(later.table)
    qtbot.mouseClick(later.table.open_button, LEFT)
    assert len(later.session.picks("c")) == int(states(later)["c"][1])
    assert later.session.overlay.min_confidence == 0.35  # as it was chosen
    assert later.session.overlay.diameters == {"ring": 90}
    later.session.save()


def test_cancelling_leaves_the_rest_to_another_start(panel, qtbot, write_model, folder):
    panel.model.setValue(write_model("compact"))
    panel.what.setValue("sweep")
    panel.tomograms.choose([folder / "a.mrc", folder / "c.mrc"])
    qtbot.mouseClick(panel.start_button, LEFT)
    assert "is at work" in panel.start_button.toolTip()
    with qtbot.waitSignal(panel.job.ended, timeout=60_000):
        qtbot.mouseClick(panel.status.cancel_button, LEFT)
    assert "Cancelled" in panel.status.message.text()
    assert states(panel)["c"] == ("not done", "")
    assert panel.start_button.isEnabled()


def test_two_panels_take_what_is_found_once(panel, qtbot, write_model, folder):
    other = ClassifyPanel(panel.session.viewer)
    qtbot.addWidget(other)
    for each in (panel, other):
        each.model.setValue(write_model("compact"))
        each.what.setValue("sweep")
        each.tomograms.choose([folder / "a.mrc", folder / "c.mrc"])
    start(panel, qtbot)
    assert panel.session.undo_stack.count() == 1
    assert states(other) == states(panel)
    assert states(panel)["a"][0] == "done"
    assert "particles found" not in other.status.message.text()


def test_picks_of_all_open_tomograms_are_classified(panel, qtbot, write_model, folder):
    session = panel.session
    session.open_tomogram(folder / "c.mrc", is_inverted=False)
    places = [[200.0, 300, 300], [200, 350, 400], [190, 320, 350]]
    session.set_picks("a", Picks.create(places, "a", label=["ring", "", ""]))
    session.set_picks("c", Picks.create(places[:2], "c"))
    panel.model.setValue(write_model("compact"))
    panel.tomograms.scope.setValue("open")
    assert "5 picks classified" in start(panel, qtbot)
    for name, label in (("a", ["ring", "", ""]), ("c", ["", ""])):
        picks = session.picks(name)
        assert (picks.prediction != "").all()
        assert picks.label.tolist() == label
    # What the model said is no change of what it was asked: nothing is to be done.
    assert "Nothing had changed" in start(panel, qtbot)


def test_picks_are_looked_at_in_all_rotations_if_the_box_is_ticked(
    panel, qtbot, write_model
):
    session = panel.session
    session.set_picks("a", Picks.create([[200.0, 300.0, 350.0]], "a"))
    panel.model.setValue(write_model("compact"))
    assert panel.average.isVisible()
    start(panel, qtbot)
    once = session.picks("a").probabilities.to_numpy()
    at = QPoint(10, panel.average.height() // 2)
    qtbot.mouseClick(panel.average, LEFT, pos=at)
    start(panel, qtbot)
    averaged = session.picks("a").probabilities.to_numpy()
    assert np.abs(averaged - once).max() > 1e-4
    assert np.isclose(averaged.sum(), 1)
    panel.what.setValue("sweep")
    assert not panel.average.isVisible()  # of no use to a sweep
