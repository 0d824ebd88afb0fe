import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from napari.components import ViewerModel

from napari_ectkd.events import EpochEnd, Finished, Noted
from napari_ectkd.gui.jobs import Job
from napari_ectkd.gui.open_jobs import Jobs
from napari_ectkd.jobs import JobFolder

WORKER = Path(__file__).parents[1] / "fake_worker.py"


@pytest.fixture
def job(qtbot, monkeypatch):
    monkeypatch.setattr(Job, "program", [sys.executable, str(WORKER)])
    job = Job()
    job.said = []
    job.done.connect(lambda result: job.said.append(("done", result)))
    job.failed.connect(lambda text: job.said.append(("failed", text)))
    job.cancelled.connect(lambda: job.said.append(("cancelled",)))
    job.ended.connect(lambda: job.said.append(("ended",)))
    yield job
    job.kill()
    if job.is_active:
        with qtbot.waitSignal(job.ended):
            pass


def run(job, folder, how, monkeypatch):
    monkeypatch.setenv("FAKE_WORKER", how)
    job.start(["train", "--out", str(folder)], folder)


def test_done_comes_with_the_result_and_then_ended(job, qtbot, tmp_path, monkeypatch):
    run(job, tmp_path, "finish", monkeypatch)
    with qtbot.waitSignal(job.ended):
        pass
    assert [what for what, *_ in job.said] == ["done", "ended"]
    assert job.said[0][1]["model"] == "compact"
    kinds = [type(event) for event in job.history]
    assert kinds == [Noted, EpochEnd, EpochEnd, Finished]
    assert not job.is_active


def test_an_error_reaches_failed(job, qtbot, tmp_path, monkeypatch):
    run(job, tmp_path, "fail", monkeypatch)
    with qtbot.waitSignal(job.ended):
        pass
    assert job.said == [("failed", "out of memory"), ("ended",)]
    assert "RuntimeError" in job.details


@pytest.mark.parametrize(
    ("how", "words"), [("die", "memory ran out"), ("bug", "nobody caught this")]
)
def test_a_death_without_a_word_is_explained(
    job, qtbot, tmp_path, monkeypatch, how, words
):
    run(job, tmp_path, how, monkeypatch)
    with qtbot.waitSignal(job.ended):
        pass
    assert [what for what, *_ in job.said] == ["failed", "ended"]
    assert words in job.said[0][1]
    assert any(isinstance(event, EpochEnd) for event in job.history)


def test_a_half_written_line_waits(job, qtbot, tmp_path, monkeypatch):
    run(job, tmp_path, "half", monkeypatch)
    with qtbot.waitSignal(job.ended):
        pass
    epochs = [e.epoch for e in job.history if isinstance(e, EpochEnd)]
    assert epochs == [1, 2, 3]


def test_cancel_ends_even_if_asked_before_the_worker_listens(
    job, qtbot, tmp_path, monkeypatch
):
    run(job, tmp_path, "wait", monkeypatch)
    job.cancel()
    with qtbot.waitSignal(job.ended):
        pass
    assert job.said == [("cancelled",), ("ended",)]
    assert JobFolder(tmp_path).state() == "cancelled"


def test_kill_ends_a_worker_that_does_not_listen(job, qtbot, tmp_path, monkeypatch):
    with qtbot.waitSignal(job.progressed):
        run(job, tmp_path, "hang", monkeypatch)
    pid = psutil.Process(job._process.pid)
    job.kill()
    with qtbot.waitSignal(job.ended):
        pass
    assert job.said == [("cancelled",), ("ended",)]
    assert not pid.is_running()


def test_a_killed_worker_that_lingers_is_left(job, qtbot, tmp_path, monkeypatch):
    """As one does whose GPU's memory has to be given back first."""
    with qtbot.waitSignal(job.progressed):
        run(job, tmp_path, "hang", monkeypatch)
    worker = job._popen
    pid = psutil.Process(worker.pid)

    def wait(seconds):
        raise subprocess.TimeoutExpired("ectkd", seconds)

    with monkeypatch.context() as patch:
        patch.setattr(worker, "wait", wait)
        job.stop(0.1)
    assert not job.is_active
    worker.wait(10)
    assert not pid.is_running()


def test_another_session_attaches_and_cancels(job, qtbot, tmp_path, monkeypatch):
    with qtbot.waitSignal(job.progressed):
        run(job, tmp_path, "wait", monkeypatch)
    job.detach()
    assert not job.is_active
    later = Job()
    with qtbot.waitSignal(later.progressed):
        later.attach(tmp_path)
    assert later.is_active
    later.cancel()
    with qtbot.waitSignals([later.cancelled, later.ended]):
        pass
    assert job.said == []


def test_a_finished_job_is_shown_again(job, qtbot, tmp_path, monkeypatch):
    run(job, tmp_path, "finish", monkeypatch)
    with qtbot.waitSignal(job.ended):
        pass
    later = Job()
    with qtbot.waitSignal(later.done) as told:
        later.attach(tmp_path)
    assert told.args[0]["best_epoch"] == 2


def test_a_job_that_goes_on_forgets_how_it_ended_before(
    job, qtbot, tmp_path, monkeypatch
):
    run(job, tmp_path, "fail", monkeypatch)
    with qtbot.waitSignal(job.ended):
        pass
    job.said.clear()
    run(job, tmp_path, "finish", monkeypatch)
    assert [e.epoch for e in job.history if isinstance(e, EpochEnd)] == [1]
    with qtbot.waitSignal(job.ended):
        pass
    assert [what for what, *_ in job.said] == ["done", "ended"]


def test_panels_of_a_viewer_share_their_jobs(qtbot):
    viewer, other = ViewerModel(), ViewerModel()
    assert Jobs.of(viewer).job("Training") is Jobs.of(viewer).job("Training")
    assert Jobs.of(viewer) is not Jobs.of(other)


def test_stopping_all_leaves_no_process(qtbot, tmp_path, monkeypatch):
    monkeypatch.setattr(Job, "program", [sys.executable, str(WORKER)])
    monkeypatch.setattr("napari_ectkd.gui.open_jobs.STOP_SECONDS", 0.2)
    before = set(psutil.Process(os.getpid()).children(recursive=True))
    jobs = Jobs.of(ViewerModel())
    job = jobs.job("Training", can_go_on=True)
    with qtbot.waitSignal(job.progressed):
        run(job, tmp_path, "hang", monkeypatch)
    jobs.stop_all()
    assert not job.is_active
    living = [
        child
        for child in psutil.Process(os.getpid()).children(recursive=True)
        if child not in before and child.status() != psutil.STATUS_ZOMBIE
    ]
    assert not living
