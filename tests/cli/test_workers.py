"""Runs in several processes, on a cluster's scheduler, and of several members."""

import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from napari_ectkd.cli import learn_commands, worker
from napari_ectkd.cli.console import Console
from napari_ectkd.cli.drive import drive
from napari_ectkd.cli.launch import _check
from napari_ectkd.cli.submit import RunTask, Submission, submit
from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.dataset.sources import load_dataset
from napari_ectkd.distillation.config import DistillConfig, GenerationConfig
from napari_ectkd.distillation.soft_labels import ask_teachers, load_teacher
from napari_ectkd.errors import ConfigError, DataError, FileMissingError
from napari_ectkd.events import (
    Cancel,
    Cancelled,
    CancelledError,
    EpochEnd,
    Failed,
    Finished,
    Noted,
)
from napari_ectkd.models.checkpoint import load_checkpoint, read_info
from napari_ectkd.runs import Run, members_of
from napari_ectkd.training.workers import Workers

# Without batch normalization, whose statistics would be of each process's share.
SETTINGS = ["--model", "student1", "--epochs", 2, "--batch-size", 6]
SETTINGS += ["--precision", "float32", "--device", "cpu", "--noise", 0.3]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two classes that student1 can take, by numpy alone."""
    import mrcfile
    import numpy as np

    folder = tmp_path_factory.mktemp("classes")
    random = np.random.default_rng(0)
    for name, level in (("a", 0.0), ("b", 2.0)):
        (folder / name).mkdir()
        for number in range(8):
            volume = random.normal(size=(27, 27, 27)).astype(np.float32)
            volume[10:17, 10:17, 10:17] += level
            with mrcfile.new(folder / name / f"{number}.mrc") as mrc:
                mrc.set_data(volume)
                mrc.voxel_size = 10
    return folder


def learn(ectkd, data, out, *more):
    return ectkd("train", "--data", data, "--out", out, *SETTINGS, *more)


def test_shares_cover_a_batch_once():
    for n in (1, 2, 3, 5):
        for n_batch in (5, 6, 17):
            shares = [Workers(rank, n).share(n_batch) for rank in range(n)]
            covered = [i for share in shares for i in range(n_batch)[share]]
            assert covered == list(range(n_batch))
            sizes = [len(range(n_batch)[share]) for share in shares]
            assert max(sizes) - min(sizes) <= 1


def test_two_processes_learn_what_one_does(ectkd, data, tmp_path):
    one = learn(ectkd, data, tmp_path / "one", "--json")
    two = learn(ectkd, data, tmp_path / "two", "--processes", 2, "--json")
    assert one.code == two.code == 0
    mine, theirs = (
        load_file(Run(tmp_path / name).last_path) for name in ("one", "two")
    )
    for key in mine:
        torch.testing.assert_close(theirs[key], mine[key], rtol=1e-3, atol=1e-5)
    # The same run folder: one log, one of each file, and the same result.
    run = Run(tmp_path / "two")
    events = list(run.events())
    assert [e.epoch for e in events if isinstance(e, EpochEnd)] == [1, 2]
    assert sum(isinstance(e, Finished) for e in events) == 1
    assert run.state() == "finished"
    assert run.card_path.exists()
    assert two.json["val_loss"] == pytest.approx(one.json["val_loss"], rel=1e-3)
    losses = [
        [e.metrics["loss"] for e in Run(tmp_path / n).events() if e.kind == "epoch_end"]
        for n in ("one", "two")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert any(
        "2 processes share each batch" in e.text for e in events if isinstance(e, Noted)
    )


def test_two_processes_go_through_the_generations(ectkd, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(data, "more")
    settings = [*SETTINGS[:2], *SETTINGS[4:], "--epochs", 1, "--generations", 2]
    answer = ectkd(
        *["train", "--data", data, *settings, "--unlabeled", "more"],
        *["--processes", 2, "--out", "teacher", "--json"],
    )
    assert answer.code == 0, answer.err
    assert answer.json["generation"] == 2
    run = Run(tmp_path / "teacher")
    # Paths hold from any folder: a cluster's job starts elsewhere.
    assert run.config()["config"]["unlabeled"] == [str(tmp_path / "more")]
    assert read_info(run.generation(1).path).model == "student1"
    assert [read_info(m.path).model for m in run.members()] == 2 * ["compact_wide"]
    events = list(run.events())
    assert [e.epoch for e in events if isinstance(e, EpochEnd)] == [1, 2, 3]
    assert sum(isinstance(e, Finished) for e in events) == 1
    # It is a teacher like any other.
    student = ectkd(
        *["distill", "--teacher", "teacher", "--data", data, "--epochs", 1],
        *["--out", "student", "--json"],
    )
    roles = [row["role"] for row in student.json["comparison"]]
    assert roles == ["teacher", "teacher", "teachers", "student"]


def test_of_two_processes_each_asks_the_teacher_of_half(ectkd, work, tmp_path):
    answer = ectkd(
        *["distill", "--teacher", work / "teacher", "--data", work / "data"],
        *["--epochs", 1, "--batch-size", 8, "--precision", "float32"],
        *["--processes", 2, "--out", tmp_path / "two", "--json"],
    )
    assert answer.code == 0
    assert answer.json["comparison"][-1]["role"] == "student"
    said = load_file(tmp_path / "two" / "soft_labels.safetensors")["logits"]
    data = value_of(
        load_dataset(DataConfig(data=[work / "data"]), cancel=Cancel()),
    )
    config = DistillConfig(precision="float32", device="cpu")
    every = np.arange(len(data))
    teachers = [load_teacher(work / "teacher").as_judged()]
    asked = ask_teachers(teachers, data, every, data.classes, config, Cancel())
    torch.testing.assert_close(said, value_of(asked), rtol=1e-4, atol=1e-4)
    totals = [
        event.total
        for event in Run(tmp_path / "two").events()
        if event.kind == "progress" and event.stage == "soft labels of teacher"
    ]
    assert totals[0] == len(data) // 2


def value_of(stream):
    while True:
        try:
            next(stream)
        except StopIteration as end:
            return end.value


def test_what_went_wrong_in_a_process_is_said_here():
    _check(Noted(text="all is well"))
    with pytest.raises(CancelledError):
        _check(Cancelled())
    with pytest.raises(DataError, match="no such network"):
        _check(Failed(message="no such network"))
    with pytest.raises(RuntimeError, match="line 7"):
        _check(Failed(message="a bug", details="line 7"))


# submitit leaves its local controller to itself, as a scheduler would.
@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_a_run_handed_to_a_scheduler(ectkd, data, tmp_path):
    run = Run(tmp_path / "run")
    answer = learn(ectkd, data, run.path, "--submit", "local", "--json")
    assert answer.code == 0
    assert answer.json["scheduler"] == "local"
    assert json.loads(run.queue_path.read_text())["job"] == answer.json["job"]
    seen = {run.state()}
    deadline = time.monotonic() + 60
    while run.state() != "finished":
        seen.add(run.state())
        assert time.monotonic() < deadline, (run.path / "queue").iterdir()
        time.sleep(0.05)
    assert seen <= {"queued", "running", "new", "interrupted", "finished"}
    assert "queued" in seen
    assert load_checkpoint(run.path)[1].model == "student1"


def test_an_operator_that_falls_back_to_the_processor_is_said(tmp_path, capsys):
    run = Run(tmp_path / "run")
    run.create({"kind": "train"})

    def stream(_):
        for what in ("fall back to run on the CPU. It is slow", "be removed soon"):
            warnings.warn(f"aten::x will {what}", UserWarning, stacklevel=1)
        yield Noted(text="at work")
        yield Finished(result={})

    with pytest.warns(UserWarning, match="removed soon"):
        drive(stream, Console(), run)
    events = list(run.events())
    assert [event.kind for event in events] == ["noted", "noted", "finished"]
    assert events[0].is_warning
    assert "aten::x will fall back to run on the CPU" in events[0].text
    assert "warning: aten::x" in capsys.readouterr().err


@pytest.mark.filterwarnings("default::UserWarning")
def test_a_gpu_that_torch_cannot_use_is_said(tmp_path, capsys):
    run = Run(tmp_path / "run")
    run.create({"kind": "train"})

    def stream(_):
        # As torch 2.14 for CUDA 13 says it of a driver for CUDA 11.4.
        warnings.warn(
            "CUDA initialization: The NVIDIA driver on your system is too old (found "
            "version 11040). Please update your GPU driver (Triggered internally at x)",
            UserWarning,
            stacklevel=1,
        )
        yield Finished(result={})

    drive(stream, Console(), run)
    assert next(iter(run.events())).text == (
        "no GPU can be used (The NVIDIA driver on your system is too old (found "
        "version 11040)): `ectkd doctor` says what to do"
    )
    assert "UserWarning" not in capsys.readouterr().err


def test_a_request_to_stop_counts_while_the_run_is_queued(tmp_path):
    run = Run(tmp_path / "run")
    run.create({"kind": "train"})
    worked = []

    def stream(cancel):
        cancel.check()
        worked.append(True)
        yield Finished(result={})

    run.request_cancel()
    with pytest.raises(CancelledError):
        drive(stream, Console(), run, was_queued=True)
    assert [event.kind for event in run.events()] == ["cancelled"]
    # Without a queue the request is of an earlier start, and forgotten.
    assert run.cancel_path.exists()
    drive(stream, Console(), run)
    assert worked == [True]
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "main", asked.append)
        patch.setattr("submitit.JobEnvironment", lambda: SimpleNamespace(num_tasks=1))
        RunTask("run", False)()
        RunTask("run", True)()
    assert asked == [["run", "--queued"], ["run", "--queued", "--resume"]]


def test_what_slurm_is_asked_for(tmp_path, monkeypatch):
    """By a `sbatch` that keeps what it is given and takes the job."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, script in (
        ("srun", "exit 0"),
        ("sbatch", f'cp "$1" {tmp_path}/sent.sh; echo "Submitted batch job 4242"'),
    ):
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    run = Run(tmp_path / "run")
    run.create({"kind": "train"})
    wanted = Submission(
        submit="slurm", processes=4, nodes=2, gpus=4, hours=1.5, partition="gpu"
    )
    assert submit(run, wanted, is_resumed=False)["job"] == "4242"
    assert run.state() == "queued"
    sent = (tmp_path / "sent.sh").read_text()
    for line in (
        *("--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=4", "--time=90"),
        *("--partition=gpu", "--cpus-per-task=8", "--job-name=run"),
    ):
        assert f"#SBATCH {line}\n" in sent


def test_a_job_computes_with_the_cores_it_got(tmp_path, monkeypatch):
    """Not with as many threads as the machine that submitted it had idle cores."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    monkeypatch.setattr("submitit.JobEnvironment", lambda: SimpleNamespace(num_tasks=1))
    seen = []
    monkeypatch.setattr(
        worker, "main", lambda _: seen.append(os.environ["OMP_NUM_THREADS"])
    )
    RunTask("run", False)()
    assert seen == ["8"]
    # The number counts from torch's import.
    code = "import sys, napari_ectkd.cli.submit, submitit.helpers; "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_setting_of_slurm_without_slurm_is_an_error(ectkd, data, tmp_path):
    answer = learn(ectkd, data, tmp_path / "run", "--gpus", 4)
    assert answer.code != 0
    assert "--gpus: for --submit slurm alone" in answer.err.replace("\n", " ")
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_where_it_began(tmp_path, monkeypatch):
    run = Run(tmp_path / "run")
    config = GenerationConfig(model="compact")
    begun = []
    monkeypatch.setattr(
        learn_commands,
        "_carry_out",
        lambda run, where, output, is_resumed: begun.append((where, is_resumed)),
    )
    four = Submission(processes=4)
    learn_commands.train(out=run.path, config=config, where=four)
    run.resume_path.touch()
    learn_commands.train(out=run.path, resume=True)
    learn_commands.train(out=run.path, resume=True, where=Submission(processes=1))
    kept = run.config()
    del kept["where"]  # of an earlier version
    run.config_path.write_text(json.dumps(kept))
    learn_commands.train(out=run.path, resume=True)
    processes = [where.processes for where, _ in begun]
    assert processes == [4, 4, 1, 1]
    assert [is_resumed for _, is_resumed in begun] == [False, True, True, True]


def test_of_where_a_run_works_only_what_is_said_anew_changes(tmp_path, monkeypatch):
    run = Run(tmp_path / "run")
    begun = []
    monkeypatch.setattr(
        learn_commands, "_carry_out", lambda _, where, *a, **k: begun.append(where)
    )
    where = Submission(submit="slurm", gpus=4, processes=4, partition="gpu")
    learn_commands.train(out=run.path, where=where)
    run.resume_path.touch()
    learn_commands.train(out=run.path, resume=True, where=Submission(hours=48))
    assert begun[1] == where.model_copy(update={"hours": 48})
    local = Run(tmp_path / "local")
    learn_commands.train(out=local.path)
    local.resume_path.touch()
    with pytest.raises(ConfigError, match="--gpus: for --submit slurm alone"):
        learn_commands.train(out=local.path, resume=True, where=Submission(gpus=4))


def test_a_run_that_goes_on_on_a_cluster_waits_until_it_begins_there(tmp_path):
    """Its log is of before."""
    run = Run(tmp_path / "run")
    run.create({"kind": "train"})
    gone = {"pid": os.getpid(), "created": 0.0}
    (run.path / "process.json").write_text(json.dumps(gone))
    run.log(Noted(text="an epoch"))
    run.log(Cancelled())
    run.resume_path.touch()
    assert run.state() == "cancelled"
    run.queue_path.write_text("{}")
    begun = (run.path / "process.json").stat().st_mtime_ns
    os.utime(run.queue_path, ns=(begun + 1, begun + 1))
    assert run.state() == "queued"
    with pytest.raises(ConfigError, match="waits for a scheduler; to go on with it"):
        learn_commands.train(out=run.path, resume=True)
    run.request_cancel()
    assert run.state() == "cancelled"
    run.cancel_path.unlink()
    os.utime(run.queue_path, ns=(begun - 1, begun - 1))  # it has begun, and is over
    assert run.state() == "cancelled"
    run.log(Failed(message="no disk"))
    assert run.state() == "failed"


def test_a_stream_is_not_balanced(tmp_path):
    data = DataConfig(stream=tmp_path / "settings.json")
    with pytest.raises(ConfigError, match="--balance is for labels"):
        learn_commands.train(
            data=data, out=tmp_path / "run", config=GenerationConfig(balance=0.5)
        )


def test_generations_without_unlabeled_ones_are_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"--generations is for .* --unlabeled"):
        learn_commands.train(
            out=tmp_path / "run", config=GenerationConfig(generations=4)
        )


def test_a_run_that_was_deleted_before_its_turn_does_not_come_back(tmp_path):
    with pytest.raises(FileMissingError, match=r"no config\.json"):
        worker.carry_out(Run(tmp_path / "run"), Console(), is_resumed=False)
    assert not (tmp_path / "run").exists()


def test_a_job_that_is_preempted_goes_on(tmp_path):
    run = Run(tmp_path / "run")
    run.create({"kind": "train"})
    task = RunTask(str(run.path), False)
    assert task.checkpoint().function.is_resumed is False  # nothing saved yet
    run.resume_path.touch()
    again = task.checkpoint().function
    assert (again.path, again.is_resumed) == (str(run.path), True)


def test_a_scheduler_that_is_not_here_is_an_error(tmp_path):
    run = Run(tmp_path / "run")
    run.create({"kind": "train"})
    with pytest.raises(ConfigError, match=r"scheduler did not take|sbatch|Slurm"):
        submit(run, Submission(submit="slurm"), is_resumed=False)


def test_an_ensemble_is_one_teacher(ectkd, work, tmp_path):
    out = tmp_path / "ensemble"
    settings = ["--data", work / "data", "--epochs", 2, "--batch-size", 8]
    settings += ["--precision", "float32"]
    answer = ectkd(
        *["train", *settings, "--out", out, "--model", "compact"],
        *["--members", 3, "--validation-fraction", 0.3, "--json"],
    )
    assert answer.code == 0
    assert [path.name for path in members_of(out)] == [
        "member-1",
        "member-2",
        "member-3",
    ]
    weights = [load_file(Run(path).best_path) for path in members_of(out)]
    key = "head.weight"
    assert not weights[0][key].equal(weights[1][key])
    best = answer.json["best_member"] - 1
    assert load_file(Run(out).best_path)[key].equal(weights[best][key])
    epochs = [e for e in Run(out).events() if isinstance(e, EpochEnd)]
    assert [(e.epoch, e.epochs) for e in epochs] == [(n, 6) for n in range(1, 7)]
    assert [e.member for e in epochs] == [1, 1, 2, 2, 3, 3]
    card = json.loads(Run(out).card_path.with_suffix(".json").read_text())
    assert (card["name"], card["ensemble"]["members"]) == ("ensemble", 3)
    assert f"member {best + 1} of an ensemble of 3" in Run(out).card_path.read_text()
    # They were validated on the same part.
    supports = [
        {
            name: n["validation"]
            for name, n in json.loads(
                Run(path).card_path.with_suffix(".json").read_text()
            )["data"]["labels"].items()
        }
        for path in members_of(out)
    ]
    assert supports[0] == supports[1] == supports[2]
    student = ectkd(
        *["distill", "--teacher", out, *settings, "--out", tmp_path / "student"],
        "--json",
    )
    card = Run(tmp_path / "student").card_path.read_text()
    assert "- Teachers: ensemble\n" in card
    *each, together, ours = student.json["comparison"]
    assert [row["role"] for row in each] == ["teacher"] * 3
    assert (together["role"], ours["role"]) == ("teachers", "student")
    for key in ("parameters", "macs", "ms_per_subtomogram"):
        assert together[key] == pytest.approx(sum(row[key] for row in each))
    for row in (*each, together, ours):
        assert 0 <= row["calibration_error"] <= 1
        assert row["kept"] >= 0.5  # at most half of the predictions are unknown
        assert row["precision"] >= row["val_accuracy"] - 1e-9
    assert "finished" in ectkd("train", "--out", out, "--resume").error


def test_an_ensemble_goes_on_with_the_members_that_are_missing(ectkd, work, tmp_path):
    settings = ["--data", work / "data", "--epochs", 2, "--batch-size", 8]
    settings += ["--precision", "float32", "--model", "compact", "--members", 2]
    whole, part = Run(tmp_path / "whole"), Run(tmp_path / "part")
    assert ectkd("train", *settings, "--out", whole.path).code == 0
    assert ectkd("train", *settings, "--out", part.path).code == 0
    # As if it had been killed before the second member came to an epoch's end.
    shutil.rmtree(part.member(2).path)
    part.member(2).path.mkdir()
    part.best_path.unlink()
    assert ectkd("train", "--out", part.path, "--resume").code == 0
    texts = [e.text for e in part.events() if isinstance(e, Noted)]
    assert "member 1 of 2 is there already" in texts
    for number in (1, 2):
        one, other = (load_file(r.member(number).last_path) for r in (whole, part))
        assert all(one[key].equal(other[key]) for key in one)
