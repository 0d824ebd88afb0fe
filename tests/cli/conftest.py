"""What the command line's tests share: running a command inside this process."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
import torch

from napari_ectkd.cli.app import run
from napari_ectkd.simulation import noise


@dataclass
class Answer:
    """What a command left: its exit code, its two streams."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def error(self):
        """The one line on the error stream of a command that failed."""
        [line] = self.err.splitlines()
        assert line.startswith("error: ")
        return line.removeprefix("error: ")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """SNR less exact but soon; one thread, since sums in another order differ."""
    monkeypatch.setattr(noise, "_N_ORIENTATIONS", 16)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def ectkd(capsys):
    """Run a command; return its answer."""

    def call(*arguments):
        capsys.readouterr()
        code = run([str(a) for a in arguments])
        return Answer(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    """A data set, a tomogram with its truth, and a trained teacher."""
    folder = tmp_path_factory.mktemp("work")
    small = ["--box", "24", "--voxel-size", "12", "--snr", "20"]
    small += ["--tilt-range", "-60", "60"]
    commands = [
        [
            *["simulate", "subtomograms", "--out", folder / "data", *small],
            *["--per-class", "3", "--none", "3"],
        ],
        [
            *["simulate", "tomogram", "--out", folder / "tomo.mrc", *small],
            *["--truth", folder / "truth.star", "--per-class", "1"],
            *["--shape", "48", "96", "96"],
        ],
        [
            *["train", "--data", folder / "data", "--out", folder / "teacher"],
            *["--model", "residual_small", "--epochs", "3", "--batch-size", "8"],
        ],
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise, "_N_ORIENTATIONS", 16)
        for command in commands:
            assert run([str(a) for a in command]) == 0
    return folder
