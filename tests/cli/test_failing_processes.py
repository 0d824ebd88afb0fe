"""Several processes of one run, of which one fails, or is told something else."""

import json
import os
import platform
import signal
import sys
from types import SimpleNamespace

import pytest
import torch
from tests.cli.test_workers import data, learn
from torch.distributed import HashStore

from napari_ectkd.cli import learn_commands, worker
from napari_ectkd.cli.drive import _signals_request
from napari_ectkd.cli.submit import RunTask, Submission, _resources, submit
from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.distillation.config import GenerationConfig
from napari_ectkd.errors import ConfigError
from napari_ectkd.events import Cancel, EpochEnd, Failed, Finished, Noted
from napari_ectkd.jobs import BEGUN_BY, JobFolder
from napari_ectkd.runs import Run
from napari_ectkd.training import workers
from napari_ectkd.training.workers import Workers, choose_worker_device

__all__ = ["data"]  # a fixture

OF_THE_SECOND = """
import os
if os.environ.get("RANK") == "1":
    import napari_ectkd.training.step as step
    part, calls = step.Stepper._part, []
    def failing(self, *more):
        calls.append(1)
        if len(calls) == 4:
            raise {error}
        part(self, *more)
    step.Stepper._part = failing
"""


def second_fails(tmp_path, monkeypatch, error):
    """Have the second of two processes raise an error in its fourth step."""
    folder = tmp_path / "customized"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(OF_THE_SECOND.format(error=error))
    known = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{known}")


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        ("MemoryError('1 GB')", 2, "out of memory on one of several devices"),
        ("step.DataError('the loss is not a number')", 2, "loss is not a number"),
        ("ValueError('a bug')", 1, "a bug"),
    ],
)
def test_what_goes_wrong_in_the_second_process_ends_the_run_and_is_said(
    ectkd, data, tmp_path, monkeypatch, error, code, says
):
    second_fails(tmp_path, monkeypatch, error)
    arguments = (data, tmp_path / "run", "--processes", 2)
    if code == 1:
        with pytest.raises(RuntimeError, match=says):
            learn(ectkd, *arguments)
    else:
        answer = learn(ectkd, *arguments)
        assert answer.code == code
        assert says in answer.err
    run = Run(tmp_path / "run")
    failures = [event for event in run.events() if isinstance(event, Failed)]
    assert len(failures) == 1
    assert says in failures[0].message
    assert bool(failures[0].details) == (code == 1)
    assert run.state() == "failed"


def test_the_student_on_labels_alone_learns_in_two_processes_too(ectkd, work, tmp_path):
    answer = ectkd(
        *["distill", "--teacher", work / "teacher", "--data", work / "data"],
        *["--epochs", 1, "--batch-size", 8, "--precision", "float32", "--baseline"],
        *["--processes", 2, "--device", "cpu", "--out", tmp_path / "two", "--json"],
    )
    assert answer.code == 0, answer.err
    assert "labels alone" in [row["role"] for row in answer.json["comparison"]]
    own = list(Run(tmp_path / "two").baseline.events())
    assert [e.epoch for e in own if isinstance(e, EpochEnd)] == [1]
    assert sum(isinstance(e, Finished) for e in own) == 1


class Others(Workers):
    """This process among others, all of which have what `theirs` says."""

    theirs = ()

    def all_of(self, value):
        return [value, *self.theirs]


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [
        (torch.bfloat16, torch.bfloat16, torch.bfloat16),
        (torch.bfloat16, torch.float16, torch.float16),
        (torch.float16, torch.bfloat16, torch.float16),
        (torch.bfloat16, None, None),
        (None, torch.float16, None),
    ],
)
def test_different_gpus_compute_in_one_type(monkeypatch, ours, theirs, agreed):
    monkeypatch.setattr(Others, "theirs", (theirs,))
    assert Others(0, 2).agreed(ours) == agreed


def test_processes_on_different_kinds_of_device_do_not_begin(monkeypatch):
    store = HashStore()
    store.set("ectkd-device-1", "cuda")
    module = sys.modules["torch.distributed.rendezvous"]
    monkeypatch.setattr(module, "rendezvous", lambda *_, **__: iter([(store, 0, 2)]))
    with pytest.raises(ConfigError, match="compute on cpu and cuda: say on which"):
        workers._meet(torch.device("cpu"))


def test_more_processes_than_gpus_are_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name, value in {
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "TORCHELASTIC_RUN_ID": "x",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"2 processes, but 1 GPUs: .*--device cpu"):
        choose_worker_device("auto")
    assert choose_worker_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match=r"--processes 4 for 2 GPUs .*--gpus 4"):
        Submission(submit="slurm", processes=4, gpus=2).check()
    Submission(submit="slurm", processes=4, gpus=0).check()
    Submission(submit="slurm", processes=2, gpus=2).check()


def test_a_failure_is_logged_once_in_each_session(tmp_path):
    job = JobFolder(tmp_path)
    job.begin()
    job.log(Noted(text="at work"))
    job.log_failure(Failed(message="no memory"))
    job.log_failure(Failed(message="connection closed by peer"))
    assert [e.message for e in job.events() if e.kind == "failed"] == ["no memory"]
    os.utime(job.events_path, ns=(1, 1))  # long ago
    job.begin()
    job.log_failure(Failed(message="no disk"))
    *_, last = job.events()
    assert last.message == "no disk"


def test_a_job_that_a_cluster_begins_anew_elsewhere_is_the_same(tmp_path, monkeypatch):
    job = JobFolder(tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "4242")
    job.begin()
    job.log(Noted(text="at work"))
    facts = json.loads((tmp_path / "process.json").read_text())
    # On the same machine a process that lives is another one.
    import psutil

    parent = psutil.Process(os.getppid())
    here = facts | {"pid": parent.pid, "created": parent.create_time()}
    (tmp_path / "process.json").write_text(json.dumps(here))
    with pytest.raises(ConfigError, match="another process is at work"):
        job.begin()
    elsewhere = json.dumps(facts | {"host": "another"})
    (tmp_path / "process.json").write_text(elsewhere)
    job.begin()
    assert not job.is_elsewhere()
    (tmp_path / "process.json").write_text(elsewhere)
    monkeypatch.setenv("SLURM_JOB_ID", "4243")
    with pytest.raises(ConfigError, match="another process is at work"):
        job.begin()


def test_a_run_s_processes_are_known_by_who_began_it(tmp_path, monkeypatch):
    job = JobFolder(tmp_path)
    parent = SimpleNamespace(pid=os.getppid())
    import psutil

    facts = {
        "pid": parent.pid,
        "created": psutil.Process(parent.pid).create_time(),
        "host": platform.node(),
    }
    (tmp_path / "process.json").write_text(json.dumps(facts))
    assert job.is_elsewhere()
    monkeypatch.setenv(BEGUN_BY, str(parent.pid))
    job.begin(was_queued=True)
    assert json.loads((tmp_path / "process.json").read_text())["pid"] == os.getpid()


def test_who_deals_with_sigterm_goes_on_to():
    def theirs(*_):
        raise AssertionError

    before = signal.signal(signal.SIGTERM, theirs)
    try:
        with _signals_request(Cancel()):
            assert signal.getsignal(signal.SIGTERM) is theirs
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with _signals_request(Cancel()):
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_cluster_s_task_that_fails_says_so_and_one_begun_anew_goes_on(
    tmp_path, monkeypatch
):
    run = Run(tmp_path / "run")
    run.create({"kind": "train"})
    asked = []
    monkeypatch.setattr(worker, "main", lambda arguments: asked.append(arguments) or 2)
    monkeypatch.setattr("submitit.JobEnvironment", lambda: SimpleNamespace(num_tasks=1))
    with pytest.raises(SystemExit) as error:
        RunTask(str(run.path), False)()
    assert error.value.code == 2
    run.resume_path.touch()
    with pytest.raises(SystemExit):
        RunTask(str(run.path), False)()
    assert [worker.RESUME in arguments for arguments in asked] == [False, True]


@pytest.mark.parametrize("ours", ["3", None])
def test_a_scheduler_that_is_none_leaves_the_gpus_visible(tmp_path, monkeypatch, ours):
    handed = []

    class Executor:
        def __init__(self, **_):
            pass

        def update_parameters(self, **_):
            pass

        def submit(self, task):
            handed.append(task)
            stdout = tmp_path / "out.txt"
            return SimpleNamespace(job_id=1, paths=SimpleNamespace(stdout=stdout))

    monkeypatch.setattr("submitit.AutoExecutor", Executor)
    monkeypatch.setattr("submitit.JobEnvironment", lambda: SimpleNamespace(num_tasks=1))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if ours:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ours)
    run = Run(tmp_path / "run")
    run.create({"kind": "train"})
    submit(run, Submission(submit="local"), is_resumed=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # as submitit does
    seen = []
    monkeypatch.setattr(
        worker, "main", lambda _: seen.append(os.environ.get("CUDA_VISIBLE_DEVICES"))
    )
    again = handed[0].checkpoint().function
    handed[0]()
    again()
    assert seen == [ours, ours]
    slurm = _resources(Submission(submit="slurm"))
    assert slurm["slurm_srun_args"] == ["--kill-on-bad-exit=1"]


def test_what_a_resumed_run_would_not_heed_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="--batch-size, --data: a run goes on by its"):
        learn_commands.train(
            out=tmp_path / "run",
            data=DataConfig(data=[tmp_path]),
            config=GenerationConfig(batch_size=4),
            resume=True,
        )


@pytest.mark.parametrize("where", [{"processes": 2}, {"submit": "slurm", "nodes": 2}])
def test_a_search_goes_on_in_one_process(tmp_path, where):
    run = Run(tmp_path / "run")
    run.create({"kind": "distill", "search": {}, "data": {}, "config": {}})
    run.resume_path.touch()
    with pytest.raises(ConfigError, match="a search trains in one process"):
        learn_commands.distill(out=run.path, resume=True, where=Submission(**where))


def test_one_of_several_processes_ends_at_once(tmp_path, monkeypatch):
    """And does not wait at its end for others, which wait for it."""
    ended = []
    monkeypatch.setattr(worker.os, "_exit", ended.append)
    at_exit = []
    monkeypatch.setattr(worker.atexit, "register", lambda *a: at_exit.append(a))
    missing = str(tmp_path / "missing")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert worker.main([missing]) == 2
    assert ended == [2]
    at_exit.clear()
    monkeypatch.setattr(worker, "carry_out", lambda *_, **__: {})
    assert worker.main([missing]) == 0
    assert at_exit == [(worker.end_at_once, 0)]
    monkeypatch.undo()
    monkeypatch.setattr(worker.os, "_exit", ended.append)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert worker.main([missing]) == 2
    assert ended == [2]


def test_a_run_may_go_on_on_another_device(tmp_path, monkeypatch):
    monkeypatch.setattr(learn_commands, "_carry_out", lambda *_, **__: None)
    run = Run(tmp_path / "run")
    learn_commands.train(out=run.path, config=GenerationConfig(device="cuda"))
    run.resume_path.touch()
    learn_commands.train(
        out=run.path, config=GenerationConfig(device="cpu"), resume=True
    )
    assert run.config()["config"]["device"] == "cpu"
