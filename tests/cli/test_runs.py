"""`ectkd runs`, and a run that is killed: real processes."""

import subprocess
import sys
import time

from safetensors.torch import load_file

from napari_ectkd.cli.app import run
from napari_ectkd.events import Noted, Progress
from napari_ectkd.models.checkpoint import read_info
from napari_ectkd.runs import Run


def test_runs_are_listed_exported_and_deleted(ectkd, work, tmp_path):
    listed = ectkd("runs", work, "--json")
    assert listed.code == 0
    [run] = listed.json["runs"]
    assert (run["name"], run["kind"], run["epoch"]) == ("teacher", "train", 3)
    shown = ectkd("runs", work)
    assert "teacher" in shown.out
    assert "residual_small" in shown.out
    out = tmp_path / "model.safetensors"
    exported = ectkd("runs", "export", work / "teacher", "--out", out, "--json")
    assert exported.json["files"] == [str(out), str(out.with_suffix(".md"))]
    assert read_info(out) == read_info(work / "teacher")
    assert "no such folder" in ectkd("runs", tmp_path / "nowhere").error
    Run(tmp_path / "gone").create({"kind": "train"})
    assert "say --yes" in ectkd("runs", "delete", tmp_path / "gone").error
    assert ectkd("runs", "delete", tmp_path / "gone", "--yes").code == 0
    assert not (tmp_path / "gone").exists()


def test_killed_in_the_middle_of_an_epoch_it_ends_with_the_same_weights(
    ectkd, tmp_path
):
    # Enough for an epoch of seconds, in which progress is told.
    data = tmp_path / "data"
    many = ["--per-class", 10, "--none", 10, "--box", 24]
    assert ectkd("simulate", "subtomograms", "--out", data, *many).code == 0
    settings = ["--data", data, "--model", "dsrf3d_v2", "--epochs", 2, "--no-refit"]
    settings += ["--batch-size", 2, "--precision", "float32", "--device", "cpu"]
    whole, part = Run(tmp_path / "whole"), Run(tmp_path / "part")
    assert ectkd("train", *settings, "--out", whole.path).code == 0
    command = [sys.executable, "-m", "napari_ectkd", "train", *settings]
    process = subprocess.Popen(
        [*map(str, command), "--out", str(part.path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while not is_inside_epoch_2(part):
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.kill()  # SIGKILL: nothing can be saved any more
        process.wait()
    assert part.state() == "interrupted"
    assert part.resume_path.exists()
    assert ectkd("train", "--out", part.path, "--resume").code == 0
    texts = [e.text for e in part.events() if isinstance(e, Noted)]
    assert "going on after epoch 1 of 2" in texts
    for name in ("last_path", "best_path"):
        one, other = (load_file(getattr(run, name)) for run in (whole, part))
        assert one.keys() == other.keys()
        for key in one:
            assert one[key].equal(other[key]), key


def is_inside_epoch_2(run):
    return any(
        isinstance(event, Progress)
        and event.stage == "epoch 2 of 2"
        and 0 < event.done < event.total
        for event in run.events()
    )


def test_a_run_is_claimed_before_torch_is_loaded(tmp_path, monkeypatch):
    out = tmp_path / "run"
    states = []

    def carry_out(begun, *_args, **_more):
        states.append(begun.state())
        return {}

    monkeypatch.setattr("napari_ectkd.cli.worker.carry_out", carry_out)
    assert run(["train", "--data", str(tmp_path), "--out", str(out)]) == 0
    assert states == ["running"]
