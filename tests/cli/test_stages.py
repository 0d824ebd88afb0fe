"""The whole small pipeline, by the forms that other programs call."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import starfile
from safetensors.torch import load_file

from napari_ectkd.events import EpochEnd
from napari_ectkd.jobs import JobFolder
from napari_ectkd.models.checkpoint import read_info
from napari_ectkd.runs import Run
from napari_ectkd.training import keeping, loop

PHANTOMS = ["barrel", "disc", "dumbbell", "helix", "ring", "shell", "tripod"]


def check_report(report, names, support):
    """The shape that `test` and `evaluate` share, and that its figures fit together."""
    assert report.keys() == {"accuracy", "macro_f1", "classes", "confusion"}
    labels, matrix = report["confusion"]["labels"], report["confusion"]["matrix"]
    matrix = np.array(matrix)
    assert report["confusion"].keys() == {"labels", "matrix"}
    assert sorted(labels) == sorted(names)
    assert matrix.shape == (len(labels), len(labels))
    for name, scores in report["classes"].items():
        assert scores.keys() == {"precision", "recall", "f1", "support"}
        row = labels.index(name)
        assert scores["support"] == matrix[row].sum()  # rows are the truth
        if matrix[row].sum():
            assert scores["recall"] == pytest.approx(
                matrix[row, row] / matrix[row].sum()
            )
    assert sum(s["support"] for s in report["classes"].values()) == support
    without_none = [s["f1"] for n, s in report["classes"].items() if n != "none"]
    assert report["macro_f1"] == pytest.approx(np.mean(without_none))


def test_the_whole_job(ectkd, work, tmp_path):
    student = tmp_path / "student"
    distilled = ectkd(
        *["distill", "--teacher", work / "teacher", "--teacher", work / "teacher"],
        *["--data", work / "data", "--out", student, "--epochs", 2, "--batch-size", 8],
        *["--temperature", 3, "--soft-weight", 0.5, "--json"],
    )
    assert distilled.code == 0
    roles = [row["role"] for row in distilled.json["comparison"]]
    assert roles == ["teacher", "teacher", "teachers", "student"]
    kept = Run(student).config()
    assert kept["config"]["temperature"] == 3
    assert kept["config"]["soft_weight"] == 0.5
    assert kept["teachers"] == [str((work / "teacher").resolve())] * 2
    assert JobFolder(student).state() == "finished"  # though this process lives
    assert [e.epoch for e in Run(student).events() if isinstance(e, EpochEnd)] == [1, 2]

    picks = tmp_path / "picks.star"
    picked = ectkd(
        *["pick", work / "tomo.mrc", "--diameter", 250, "--out", picks, "--json"],
        "--no-invert",
    )
    assert picked.code == 0
    table = starfile.read(picks)
    assert picked.json == {"n": len(table), "voxel_size": 12.0}
    assert len(table) > 1

    classes = tmp_path / "classes.star"
    classified = ectkd(
        *["classify", work / "tomo.mrc", "--picks", picks, "--model", student],
        *["--out", classes, "--json", "--no-invert"],
    )
    assert classified.code == 0
    found = starfile.read(classes)
    assert classified.json["n"] == len(found) == len(table)
    assert sum(classified.json["counts"].values()) == len(found)
    assert set(found["ectkdPrediction"]) <= {*PHANTOMS, "none", "<empty>"}
    np.testing.assert_allclose(
        found["rlnCoordinateX"], table["rlnCoordinateX"], atol=1e-4
    )

    tested = ectkd("test", "--model", student, "--data", work / "data", "--json")
    assert tested.code == 0
    check_report(tested.json, [*PHANTOMS, "none"], 24)

    truth = work / "truth.star"
    compared = ectkd("evaluate", truth, truth, "--radius", 10, "--json")
    assert compared.code == 0
    check_report(compared.json, [*PHANTOMS, "none"], 7)
    assert compared.json["accuracy"] == compared.json["macro_f1"] == 1
    evaluated = ectkd("evaluate", classes, truth, "--radius", 100, "--json")
    assert evaluated.code in (0, 2)  # 2 where so young a student saw nothing
    if evaluated.code == 0:
        assert set(evaluated.json["confusion"]["labels"]) <= {*PHANTOMS, "none"}


def test_tables_for_people(ectkd, work):
    answer = ectkd("test", "--model", work / "teacher", "--data", work / "data")
    assert answer.code == 0
    assert "precision" in answer.out
    assert "macro F1" in answer.out
    assert "tripod" in answer.out


def test_json_is_all_there_is_on_the_output(ectkd, tmp_path):
    answer = ectkd(
        *["simulate", "subtomograms", "--out", tmp_path / "d", "--per-class", 1],
        *["--box", 32, "--json", "--noise", "per-particle"],
    )
    assert answer.code == 0
    assert answer.json["classes"] == PHANTOMS
    assert answer.json["n"] == 7
    assert len(answer.out.splitlines()) == 1
    assert "normalized by itself" in answer.err


def test_simulate_by_the_contract(ectkd, tmp_path, make_mrc):
    z, y, x = np.indices((16, 16, 16)) - 8
    for number, radius in enumerate((3, 4, 5)):
        ball = (z**2 + y**2 + x**2 < radius**2).astype(np.float32)
        make_mrc(ball, 10.0, name=f"maps{number % 2}/ball{radius}.mrc")
    answer = ectkd(
        *["simulate", "subtomograms", "--density", tmp_path / "maps0"],
        *["--density", tmp_path / "maps1" / "ball4.mrc", "--out", tmp_path / "d"],
        *["--per-class", 2, "--none", 1, "--box", 24, "--voxel-size", 10],
        *["--snr", 0.1, "--tilt-range", -60, 50, "--seed", 0, "--json"],
    )
    assert answer.code == 0
    assert sorted(answer.json["classes"]) == ["ball3", "ball4", "ball5", "none"]
    assert answer.json["n"] == 7
    info = json.loads((tmp_path / "d" / "dataset.json").read_text())
    assert info["tilt_range"] == [-60, 50]
    assert info["box"] == 24


def test_models_by_the_contract(ectkd):
    answer = ectkd("models", "--box", 40, "--classes", 23, "--json")
    assert answer.code == 0
    assert (answer.json["box"], answer.json["classes"]) == (40, 23)
    rows = {row["name"]: row for row in answer.json["models"]}
    assert rows["dsrf3d_v2"]["parameters"] == pytest.approx(18.32e6, abs=5e3)
    assert rows["dsrf3d_v2"]["macs"] == pytest.approx(3833e6, abs=1e6)
    assert rows["compact"]["kind"] == "student"
    assert "ms_per_subtomogram" not in rows["compact"]
    # To be copied after --model, also from a narrow terminal.
    assert " dsrf3d_v2_published " in ectkd("models").out
    small = ectkd("models", "--box", 24, "--json", "--time", "--batch-size", 2)
    names = {row["name"] for row in small.json["models"]}
    ours = {"compact_nano", "compact", "compact_wide"}
    theirs = {"dsrf3d_v2", "dsrf3d_v2_published"}
    assert names == {"residual_small", "residual"} | theirs | ours
    more = ectkd("models", "--monai", "--json").json["models"]
    assert "monai:densenet121" in {row["name"] for row in more}
    assert all(row["ms_per_subtomogram"] > 0 for row in small.json["models"])
    assert "student1 needs a box of at least 27" in small.err


def test_picks_as_a_data_set(ectkd, work, tmp_path):
    # The truth of the tomogram is a list of labeled picks.
    answer = ectkd(
        *["train", "--data", work / "truth.star", "--tomograms", work, "--box", 24],
        *["--data", work / "data", "--no-invert", "--model", "compact"],
        *["--epochs", 1, "--batch-size", 4, "--out", tmp_path / "run", "--json"],
        *["--tilt-range", -60, 60, "--validation-fraction", 0],
    )
    assert answer.code == 0, answer.err
    info = read_info(tmp_path / "run")
    assert info.classes == [*PHANTOMS, "none"]
    assert info.tilt_range == (-60, 60)
    config = Run(tmp_path / "run").config()
    paths = [str((work / name).resolve()) for name in ("truth.star", "data")]
    assert config["data"]["data"] == paths


def test_a_run_goes_on_by_its_own_settings(ectkd, work, tmp_path, monkeypatch):
    monkeypatch.setattr(keeping, "SECONDS_BETWEEN_SAVES", 0)
    arguments = ["--data", work / "data", "--model", "compact", "--epochs", 3]
    arguments += ["--batch-size", 8, "--precision", "float32"]
    assert ectkd("train", *arguments, "--out", tmp_path / "whole").code == 0
    run = Run(tmp_path / "part")
    real = loop.validate

    def cancelling(*args):
        if (run.path / "resume.safetensors").exists():
            run.request_cancel()
        return real(*args)

    monkeypatch.setattr(loop, "validate", cancelling)
    stopped = ectkd("train", *arguments, "--out", run.path)
    assert stopped.code == 130
    assert stopped.err.splitlines()[-1] == "cancelled"
    assert [*run.events()][-1].kind == "cancelled"
    monkeypatch.setattr(loop, "validate", real)
    again = ectkd("train", *arguments, "--out", run.path)
    assert again.code == 2
    assert "--resume" in again.error
    assert ectkd("distill", "--out", run.path, "--resume").code == 2
    resumed = ectkd("train", "--out", run.path, "--resume")
    assert resumed.code == 0
    assert [*run.events()][-1].kind == "finished"
    one, other = (
        load_file(tmp_path / n / "last.safetensors") for n in ("whole", "part")
    )
    assert all((one[key] == other[key]).all() for key in one)
    finished = ectkd("train", "--out", run.path, "--resume")
    assert finished.code == 2
    assert "nothing to resume" in finished.error
    assert [*run.events()][-1].kind == "finished"


def test_distillation_goes_on_too(ectkd, work, tmp_path, monkeypatch):
    monkeypatch.setattr(keeping, "SECONDS_BETWEEN_SAVES", 0)
    run = Run(tmp_path / "student")
    real = keeping.save_state

    def cancelling(*args):
        real(*args)
        run.request_cancel()

    monkeypatch.setattr(keeping, "save_state", cancelling)
    arguments = ["--teacher", work / "teacher", "--data", work / "data"]
    arguments += ["--out", run.path, "--epochs", 2, "--batch-size", 8]
    assert ectkd("distill", *arguments).code == 130
    monkeypatch.setattr(keeping, "save_state", real)
    assert ectkd("distill", "--out", run.path, "--resume").code == 0
    assert [e.epoch for e in run.events() if isinstance(e, EpochEnd)] == [1, 2]


def test_a_jobs_folder_logs_and_cancels(ectkd, work, tmp_path):
    job = tmp_path / "job"
    answer = ectkd(
        *["pick", work / "tomo.mrc", "--diameter", 250, "--no-invert"],
        *["--out", tmp_path / "picks.star", "--job", job],
    )
    assert answer.code == 0
    kinds = [event.kind for event in JobFolder(job).events()]
    assert kinds[-2:] == ["saved", "finished"]
    failed = ectkd(
        *["pick", tmp_path / "nowhere.mrc", "--diameter", 250],
        *["--out", tmp_path / "picks.star", "--job", job],
    )
    assert failed.code == 2
    [*_, last] = JobFolder(job).events()
    assert last.kind == "failed"
    assert last.message in failed.error


def test_ctrl_c_cancels_with_130(work, tmp_path):
    run = Run(tmp_path / "run")
    command = [sys.executable, "-m", "napari_ectkd", "train", "--data", work / "data"]
    command += ["--out", run.path, "--model", "compact", "--epochs", "100000"]
    process = subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        deadline = time.monotonic() + 60
        while not any(isinstance(event, EpochEnd) for event in run.events()):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err.splitlines()[-1] == "cancelled"
    assert "Traceback" not in err
    assert run.state() == "cancelled"
