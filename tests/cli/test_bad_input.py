"""What a user can get wrong: exit code 2 and one clear line."""

import subprocess
import sys

import mrcfile
import numpy as np
import pytest
from safetensors.numpy import save_file

from napari_ectkd.cli import tomogram_commands
from napari_ectkd.runs import Run


@pytest.fixture
def tomogram(make_mrc):
    voxels = np.random.default_rng(0).normal(size=(40, 48, 48)).astype(np.float32)
    return make_mrc(voxels, 12.0, name="t/tomo.mrc")


@pytest.fixture
def pick(ectkd, tmp_path):
    def call(path, *more):
        out = tmp_path / "picks.star"
        answer = ectkd("pick", path, "--diameter", 200, "--out", out, *more)
        assert answer.code == 2
        assert answer.out == ""
        assert not out.exists()
        return answer.error

    return call


@pytest.fixture
def classify(ectkd, work, tmp_path, tomogram):
    def call(path=None, picks=None, model=None, out=None, more=()):
        answer = ectkd(
            *["classify", path or tomogram, "--picks", picks or work / "truth.star"],
            *["--model", model or work / "teacher", "--no-invert", *more],
            *["--out", out or tmp_path / "classes.star"],
        )
        assert answer.code == 2
        return answer.error

    return call


def write_star(path, columns, rows):
    lines = ["data_particles", "", "loop_"]
    lines += [f"_{name} #{n}" for n, name in enumerate(columns, 1)]
    lines += [" ".join(map(str, row)) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


COORDINATES = ["rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ", "rlnPixelSize"]


def test_a_truncated_mrc(pick, tomogram):
    tomogram.write_bytes(tomogram.read_bytes()[:-1000])
    assert "tomo.mrc" in pick(tomogram)
    tomogram.write_bytes(b"MAP ")
    assert "tomo.mrc" in pick(tomogram)


def test_a_2d_mrc(pick, make_mrc):
    assert "image of shape (30, 30)" in pick(
        make_mrc(np.zeros((30, 30), np.float32), name="flat.mrc")
    )


def test_nan_voxels(pick, classify, tomogram, work):
    with mrcfile.mmap(tomogram, mode="r+") as mrc:
        mrc.data[20, 24, 24] = np.nan
    assert "voxel (z 20, y 24, x 24) is NaN" in pick(tomogram, "--no-invert")
    picks = write_star(tomogram.parent / "p.star", COORDINATES, [[24, 24, 20, 12]])
    assert "NaN" in classify(picks=picks)


def test_a_header_without_voxel_size(pick, make_mrc):
    path = make_mrc(np.zeros((30, 30, 30), np.float32), 0.0)
    assert "--voxel-size" in pick(path)


def test_an_empty_star(classify, tmp_path):
    empty = tmp_path / "empty.star"
    empty.touch()
    assert "not a STAR file" in classify(picks=empty)
    assert "empty.star" in classify(picks=write_star(empty, COORDINATES[:3], []))


def test_a_star_without_coordinates(classify, tmp_path):
    path = write_star(tmp_path / "p.star", ["rlnClassNumber", "rlnPixelSize"], [[1, 2]])
    assert "no column rlnCoordinateZ" in classify(picks=path)


def test_an_unknown_class(ectkd, work, tmp_path, make_mrc):
    random = np.random.default_rng(0)
    for name in ("barrel", "ribosome"):
        voxels = random.normal(size=(24, 24, 24)).astype(np.float32)
        make_mrc(voxels, 12.0, name=f"d/{name}/1.mrc")
    answer = ectkd("test", "--model", work / "teacher", "--data", tmp_path / "d")
    assert answer.code == 2
    assert "unknown class ribosome" in answer.error


def test_a_box_larger_than_the_tomogram(classify, ectkd, tmp_path, make_mrc, work):
    thin = make_mrc(
        np.random.default_rng(0).normal(size=(20, 48, 48)).astype("f4"),
        12.0,
        "tomo.mrc",
    )
    assert "larger than tomogram tomo, 20 × 48 × 48" in classify(thin)
    answer = ectkd(
        *["train", "--data", work / "truth.star", "--tomograms", work, "--box", 64],
        *["--out", tmp_path / "run", "--no-invert"],
    )
    assert answer.code == 2
    assert "larger than tomogram" in answer.error


def test_a_checkpoint_of_another_kind(classify, tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(b"PK\x03\x04" + bytes(1000))
    assert "not a checkpoint of ectkd" in classify(model=path)
    save_file({"a": np.zeros(2)}, path)
    assert "not written by ectkd" in classify(model=path)
    assert "no checkpoint in this folder" in classify(model=tmp_path)


@pytest.mark.parametrize(
    "command", ["train", "distill", "simulate", "pick", "classify"]
)
def test_an_unwritable_folder(ectkd, classify, pick, work, tmp_path, command, tomogram):
    (tmp_path / "file").touch()
    below = tmp_path / "file" / "out.star"
    if command == "classify":
        picks = write_star(tmp_path / "p.star", COORDINATES, [[24, 24, 20, 12]])
        assert "cannot write" in classify(picks=picks, out=below)
        return
    arguments = {
        "train": ["train", "--data", work / "data"],
        "distill": ["distill", "--data", work / "data", "--teacher", work / "teacher"],
        "simulate": ["simulate", "subtomograms", "--per-class", 1],
        "pick": ["pick", tomogram, "--diameter", 200, "--no-invert"],
    }[command]
    answer = ectkd(*arguments, "--out", below)
    assert answer.code == 2
    assert "cannot write" in answer.error


def test_missing_files(ectkd, pick, classify, tmp_path, work):
    nowhere = tmp_path / "nowhere"
    assert "nowhere" in pick(nowhere)
    assert "no such file" in classify(picks=nowhere)
    assert "no such file" in classify(model=nowhere)
    for arguments in (
        ["train", "--data", nowhere],
        ["distill", "--data", work / "data", "--teacher", nowhere],
        ["simulate", "subtomograms", "--density", nowhere, "--per-class", 1],
    ):
        answer = ectkd(*arguments, "--out", tmp_path / "out")
        assert answer.code == 2
        assert "nowhere" in answer.error
    answer = ectkd("evaluate", nowhere, work / "truth.star", "--radius", 10)
    assert answer.code == 2
    assert "nowhere" in answer.error
    answer = ectkd("train", "--out", nowhere, "--resume")
    assert answer.code == 2
    assert "no run" in answer.error


def test_a_run_whose_data_was_wrong_can_be_begun_again(ectkd, work, tmp_path):
    out = ["--out", tmp_path / "run", "--model", "compact", "--epochs", 1]
    assert ectkd("train", "--data", tmp_path / "nowhere", *out).code == 2
    assert ectkd("train", "--data", work / "data", *out).code == 0
    again = ectkd("train", "--data", work / "data", *out)
    assert again.code == 2
    assert "holds a run already" in again.error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--out", "x", "--epoch", "3"], "epoch"),
        (["fly"], "fly"),
        (["pick"], "tomogram"),
        (["train", "--data", "d"], "--out"),
        (["train", "--out", "x"], "--data"),
        (["distill", "--out", "x", "--data", "d"], "--teacher"),
        (["train", "--out", "x", "--epochs", "many"], "many"),
        (["train", "--out", "x", "--epochs", "0"], "--epochs: "),
        (["train", "--out", "x", "--data", "d", "--model", "vgg"], "vgg"),
        (["train", "--out", "x", "--data", "d", "--device", "cuda:77"], "cuda:77"),
        (["distill", "--out", "x", "--temperature", "0.5"], "--temperature: "),
        (["distill", "--out", "x", "--soft-weight", "1.5"], "--soft-weight: "),
        (["train", "--out", "x", "--tilt-range", "60", "-60"], "--tilt-range: "),
        (["train", "--out", "x", "--normalize", "twice"], "twice"),
        (["pick", "t.mrc", "--diameter", "-5", "--out", "x"], "--diameter: "),
        (["models", "--box", "4"], "--box"),
        (["models", "--classes", "1"], "at least two"),
        (["evaluate", "a.star", "b.star"], "--radius"),
        (
            ["simulate", "subtomograms", "--out", "x", "--per-class", "0"],
            "--per-class: ",
        ),
        (
            [
                "simulate",
                "tomogram",
                "--out",
                "t.png",
                "--truth",
                "s",
                "--per-class",
                "1",
            ],
            "--out: ",
        ),
    ],
)
def test_options_that_cannot_be(ectkd, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    answer = ectkd(*arguments)
    assert answer.code == 2
    assert message in answer.error
    assert answer.out == ""


def test_settings_of_another_version(ectkd, tmp_path):
    run = Run(tmp_path / "run")
    run.create({"kind": "train", "data": {}, "config": {"warmup": 3}})
    run.resume_path.touch()
    answer = ectkd("train", "--out", run.path, "--resume")
    assert answer.code == 2
    assert "warmup" in answer.error


def test_a_bug_keeps_its_traceback(ectkd, monkeypatch, tmp_path):
    def broken(*_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(tomogram_commands, "open_with", broken)
    with pytest.raises(ZeroDivisionError):
        ectkd(
            *["pick", "t.mrc", "--diameter", 100, "--out", tmp_path / "p.star"],
            *["--job", tmp_path / "job"],
        )
    [event] = Run(tmp_path / "job").events()
    assert event.kind == "failed"
    assert "Traceback" in event.details


def test_the_programs_exit_code(tmp_path):
    done = subprocess.run(
        [
            *[sys.executable, "-m", "napari_ectkd", "pick", tmp_path / "nowhere.mrc"],
            *["--diameter", "100", "--out", tmp_path / "p.star"],
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: ")
    assert done.stdout == ""


def test_a_demo_does_not_write_among_other_files(ectkd, tmp_path):
    (tmp_path / "mine.txt").touch()
    answer = ectkd("demo", "--out", tmp_path)
    assert answer.code == 2
    assert "not an empty folder" in answer.error
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_options_that_do_not_go_together_are_named(ectkd, tmp_path):
    answer = ectkd(
        *["simulate", "tomogram", "--out", tmp_path / "t.mrc"],
        *["--truth", tmp_path / "t.star", "--shape", 40, 40, 40],
    )
    assert answer.code == 2
    assert answer.error.startswith("state how many particles there are")
    assert "--per-class" in answer.error
    assert "{" not in answer.error
    assert not (tmp_path / "t.mrc").exists()
