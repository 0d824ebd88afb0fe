import os
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from napari_ectkd.gui.jobs import Job
from napari_ectkd.gui.open_jobs import Jobs
from napari_ectkd.gui.session import Session
from napari_ectkd.gui.studio import StudioPanel
from napari_ectkd.io.picks import Picks
from napari_ectkd.jobs import JobFolder

WORKER = Path(__file__).parents[1] / "fake_worker.py"


@pytest.fixture
def studio(make_napari_viewer, make_mrc, monkeypatch):
    monkeypatch.setattr(Job, "program", [sys.executable, str(WORKER)])
    viewer = make_napari_viewer(show=True)
    noise = np.random.default_rng(0).normal(size=(20, 24, 24)).astype(np.float32)
    session = Session.of(viewer)
    tomogram = session.open_tomogram(make_mrc(noise))
    studio = StudioPanel(viewer)
    viewer.window.add_dock_widget(studio, name="Studio")
    labels = ["a", "a", "b", "b"]
    picks = Picks.create(np.arange(12).reshape(4, 3), tomogram.name, label=labels)
    session.set_picks(tomogram.name, picks)
    yield studio
    Jobs.of(viewer).stop_all()
    session.save()


def living_workers():
    children = psutil.Process(os.getpid()).children(recursive=True)
    return [c for c in children if c.status() != psutil.STATUS_ZOMBIE]


def start(studio, qtbot, monkeypatch):
    monkeypatch.setenv("FAKE_WORKER", "wait")
    studio.tabs.setCurrentWidget(studio.train)
    with qtbot.waitSignal(studio.train.job.progressed):
        studio.train.start_button.click()
    return studio.train.job


def test_done_steps_are_marked_and_tabs_fit(studio):
    assert studio.done_steps() == [True, False, False, False]
    assert studio.tabs.tabText(0) == "✓ Label"
    assert studio.tabs.minimumSizeHint().width() <= 430


def test_closing_stops_a_run_and_leaves_no_process(studio, qtbot, monkeypatch):
    job = start(studio, qtbot, monkeypatch)
    asked = []
    studio.train.jobs.question = lambda titles, _: asked.append(titles) or "stop"
    studio.session.viewer.close()
    assert asked == [["Training"]]
    assert not job.is_active
    assert JobFolder(job.folder).state() == "cancelled"
    assert not living_workers()


def test_a_run_may_go_on_without_the_window(studio, qtbot, monkeypatch):
    job = start(studio, qtbot, monkeypatch)
    studio.train.jobs.question = lambda *_: "go on"
    studio.session.viewer.close()
    assert not job.is_active
    assert JobFolder(job.folder).state() == "running"
    later = Job()
    later.attach(job.folder)
    with qtbot.waitSignal(later.ended):
        later.cancel()


def test_the_window_stays_if_that_is_the_answer(studio, qtbot, monkeypatch):
    job = start(studio, qtbot, monkeypatch)
    studio.train.jobs.question = lambda *_: "stay open"
    assert not studio.window().close()
    assert studio.isVisible()
    assert job.is_active


def test_training_again_leads_to_the_training_step(studio):
    studio.tabs.setCurrentWidget(studio.classify)
    assert studio.classify.correct_button.isVisible()
    studio.classify.correct_requested.emit()
    assert studio.tabs.currentWidget() is studio.train
