import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from napari_ectkd.errors import ConfigError, FileMissingError, FormatError, WriteError
from napari_ectkd.events import (
    Cancelled,
    CancelledError,
    EpochEnd,
    Failed,
    Finished,
    Noted,
)
from napari_ectkd.jobs import JobFolder
from napari_ectkd.runs import Run

NOTE = Noted(text="Å – a note")
EPOCH = EpochEnd(epoch=1, epochs=2, metrics={"loss": 1.0})


@pytest.fixture
def job(tmp_path):
    return JobFolder(tmp_path / "job")


def say_who(job, process):
    """Write that another process does the job."""
    job.path.mkdir(exist_ok=True)
    facts = {"pid": process.pid, "created": process.create_time()}
    (job.path / "process.json").write_text(json.dumps(facts))


@pytest.fixture
def other():
    """Another living process."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield psutil.Process(process.pid)
    process.communicate(b"\n")


def test_a_job_from_new_to_running(job):
    assert job.state() == "new"
    assert not job.is_running()
    assert list(job.events()) == []
    job.begin()
    assert job.is_running()
    assert job.state() == "running"
    job.log(NOTE)
    job.log(EPOCH)
    assert job.state() == "running"
    assert list(job.events()) == [NOTE, EPOCH]
    lines = job.events_path.read_bytes().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["noted", "epoch_end"]


@pytest.mark.parametrize(
    ("last", "state"),
    [
        (Finished(), "finished"),
        (Failed(message="why"), "failed"),
        (Cancelled(), "cancelled"),
        (EPOCH, "interrupted"),
        (NOTE, "interrupted"),
    ],
)
def test_what_became_of_a_job_whose_process_is_gone(job, last, state, other):
    job.begin()
    job.log(NOTE)
    job.log(last)
    assert job.state() == ("finished" if last == Finished() else "running")
    say_who(job, other)
    assert job.state() == "running"
    other.kill()
    other.wait()
    assert not job.is_running()
    assert job.state() == state


def test_another_process_with_the_same_number_is_another(job, other):
    say_who(job, other)
    facts = json.loads((job.path / "process.json").read_text())
    facts["created"] -= 100  # since then the number was dealt out again
    (job.path / "process.json").write_text(json.dumps(facts))
    assert not job.is_running()


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"pid": "x", "created": 1}'])
def test_a_broken_process_file_is_nobody(job, text):
    job.path.mkdir()
    (job.path / "process.json").write_text(text)
    assert not job.is_running()
    job.begin()
    assert job.is_running()


def test_a_second_process_is_refused(job, other):
    say_who(job, other)
    with pytest.raises(ConfigError, match="another process is at work"):
        job.begin()
    other.kill()
    other.wait()
    job.begin()
    job.begin()  # the same process may, again
    facts = json.loads((job.path / "process.json").read_text())
    assert facts["pid"] == os.getpid()


def test_a_half_written_last_line_is_left_out(job):
    job.begin()
    job.log(NOTE)
    with job.events_path.open("a") as file:
        file.write(EPOCH.line()[:20])
    assert list(job.events()) == [NOTE]
    # Who goes on with the job begins a new line.
    job.begin()
    job.log(EPOCH)
    assert list(job.events()) == [NOTE, EPOCH]


def test_a_request_to_cancel_from_elsewhere(job):
    job.begin()
    cancel = job.cancel()
    cancel.check()
    JobFolder(job.path).request_cancel()
    with pytest.raises(CancelledError):
        cancel.check()
    job.begin()
    job.cancel().check()  # an earlier request is forgotten


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="cannot write"):
        JobFolder(tmp_path / "file" / "job").begin()
    with pytest.raises(WriteError, match="cannot write"):
        Run(tmp_path / "file" / "run").create({})
    with pytest.raises(ConfigError, match="is a file"):
        Run(tmp_path / "file").create({})


def test_a_run_keeps_its_settings(tmp_path):
    run = Run(tmp_path / "deep" / "run")
    run.create({"kind": "train", "epochs": 3})
    assert Run(run.path).config() == {"kind": "train", "epochs": 3}
    assert run.state() == "new"


def test_what_a_folder_of_no_run_says(tmp_path):
    with pytest.raises(FileMissingError, match=r"no run \(no config.json in it\)"):
        Run(tmp_path).config()
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(FormatError, match="broken JSON") as error:
        Run(tmp_path).config()
    assert "\n" not in str(error.value)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(FormatError, match="broken"):
        Run(tmp_path).config()


@pytest.mark.parametrize("name", ["best_path", "last_path", "resume_path"])
def test_a_run_with_weights_is_not_begun_anew(tmp_path, name):
    run = Run(tmp_path / "run")
    run.create({"n": 1})
    getattr(run, name).touch()
    with pytest.raises(ConfigError, match="holds a run already"):
        run.create({"n": 2})
    assert run.config() == {"n": 1}


def test_a_run_that_saved_nothing_is_begun_anew(tmp_path, other):
    run = Run(tmp_path / "run")
    run.create({"n": 1})
    say_who(run, other)
    with pytest.raises(ConfigError, match="holds a run already"):
        run.create({"n": 2})  # it may save soon
    other.kill()
    other.wait()
    run.log(Failed(message="no such data set"))
    run.create({"n": 2})
    assert run.config() == {"n": 2}


def test_a_line_cut_off_within_a_letter_is_left_out(job):
    job.begin()
    job.log(NOTE)
    line = NOTE.line().encode()
    with job.events_path.open("ab") as file:
        file.write(line[: line.index("Å".encode()) + 1])
    assert list(job.events()) == [NOTE]
    assert job.state() == "running"
    job.begin()
    job.log(EPOCH)
    assert list(job.events()) == [NOTE, EPOCH]


def test_a_process_of_another_machine_may_have_the_same_number(job):
    job.begin()
    facts = json.loads((job.path / "process.json").read_text())
    facts["host"] = "another-machine"
    (job.path / "process.json").write_text(json.dumps(facts))
    with pytest.raises(ConfigError, match="another process is at work"):
        job.begin()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full disk to write to")
def test_a_full_disk_is_said(job):
    job.begin()
    job.events_path.symlink_to("/dev/full")
    with pytest.raises(WriteError, match=r"events\.jsonl.*disk with room"):
        job.log(NOTE)
