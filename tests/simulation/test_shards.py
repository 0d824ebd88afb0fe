"""Data sets in shards: the same bytes whoever makes them, and after a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from napari_ectkd.errors import ConfigError
from napari_ectkd.events import Cancel, CancelledError
from napari_ectkd.io import stacks
from napari_ectkd.io.stacks import open_stacks
from napari_ectkd.simulation import noise, shards
from napari_ectkd.simulation.config import SubtomogramSimulation
from napari_ectkd.simulation.subtomograms import simulate_subtomograms

SETTINGS = {
    "box": 24,
    "per_class": 8,
    "none": 4,
    "neighbors": 0.2,
    "snr_spread": 2,
    "tilt_range_spread": 5,
}
"""60 subtomograms: four shards of at most 16."""
KILLED = """
import json, os, signal, sys
from napari_ectkd.events import Cancel
from napari_ectkd.io import stacks
from napari_ectkd.simulation import noise, shards
from napari_ectkd.simulation.config import SubtomogramSimulation
from napari_ectkd.simulation.subtomograms import simulate_subtomograms

stacks._PER_STACK, noise._N_ORIENTATIONS = 16, 16
config = SubtomogramSimulation(**json.loads(sys.argv[1]))
for event in simulate_subtomograms(config, cancel=Cancel()):
    if event.kind == "progress" and event.done > 24:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module", autouse=True)
def soon():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stacks, "_PER_STACK", 16)
        patch.setattr(noise, "_N_ORIENTATIONS", 16)
        yield


def run(out, **changes):
    config = SubtomogramSimulation(**SETTINGS | changes, out=out)
    return list(simulate_subtomograms(config, cancel=Cancel()))


def said(events):
    return "; ".join(event.text for event in events if event.kind == "noted")


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, soon):
    folder = tmp_path_factory.mktemp("whole") / "data"
    run(folder)
    return folder


def test_classes_are_mixed_and_counted_exactly(whole):
    info, _, labels = open_stacks(whole)
    counts = {name: labels.count(name) for name in info.classes}
    assert counts == {name: 4 if name == "none" else 8 for name in info.classes}
    assert len(list(whole.glob("*.mrc"))) == 4
    assert all(len(set(labels[16 * i : 16 * i + 16])) >= 5 for i in range(3))


def test_the_number_of_processes_changes_no_byte(whole, tmp_path):
    before = torch.get_num_threads()
    events = run(tmp_path / "data", processes=2)
    assert files(tmp_path / "data") == files(whole)
    progress = [event for event in events if event.kind == "progress"]
    assert progress[-1].done <= progress[-1].total == 60
    assert progress[-1].seconds_left is not None
    assert torch.get_num_threads() == before


def test_killed_half_way_it_goes_on_to_the_same_bytes(whole, tmp_path):
    folder = tmp_path / "data"
    settings = json.dumps(SETTINGS | {"out": str(folder)})
    # With other threads, too, than those that go on.
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, settings],
        env=os.environ | {"OMP_NUM_THREADS": "2"},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    written = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.mrc")}
    assert 1 <= len(written) <= 2
    assert not (folder / "dataset.json").exists()
    with pytest.raises(ConfigError, match=r"of other settings \(seed 0 there, 1 now\)"):
        run(folder, seed=1)

    assert f"going on: {16 * len(written)} of 60" in said(run(folder))
    assert files(folder) == files(whole)
    for name, when in written.items():
        assert (folder / name).stat().st_mtime_ns == when

    events = run(folder)
    assert "there already, whole" in said(events)
    assert events[-1].result["n"] == 60


def test_the_processes_of_a_killed_one_end_too(whole, tmp_path):
    folder = tmp_path / "data"
    settings = json.dumps(SETTINGS | {"out": str(folder), "processes": 2})
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, settings], stdout=subprocess.PIPE
    ) as process:
        # They have the same pipe as their output: it ends with the last of them.
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    run(folder)
    assert files(folder) == files(whole)


def test_cancelled_processes_leave_whole_shards(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_INTERVAL", 0.005)
    cancel = Cancel()
    config = SubtomogramSimulation(**SETTINGS, processes=2, out=tmp_path / "data")
    events = simulate_subtomograms(config, cancel=cancel)
    while next(events).kind != "progress":
        pass
    cancel.request()
    with pytest.raises(CancelledError):
        list(events)
    assert not (tmp_path / "data" / "dataset.json").exists()
    run(tmp_path / "data")
    assert files(tmp_path / "data") == files(whole)


def test_a_density_that_changed_under_its_name_is_noticed(tmp_path, make_mrc):
    z, y, x = np.indices((16, 16, 16)) - 8
    ball = (z**2 + y**2 + x**2 < 16).astype(np.float32)
    file = tmp_path / "ball.mrc"
    shutil.copyfile(make_mrc(ball), file)
    out = tmp_path / "data"
    of = {"density": [file], "none": 0, "neighbors": 0}
    run(out, **of)
    assert "whole" in said(run(out, **of))
    before = file.read_bytes()
    shutil.copyfile(make_mrc(np.roll(ball, 1, 0) + 0.5 * ball), file)
    assert file.stat().st_size == len(before)
    with pytest.raises(ConfigError, match="another density of ball"):
        run(out, **of)
    file.write_bytes(before)
    assert "whole" in said(run(out, **of))
    # A data set of an earlier version has no hashes, and is taken as it is.
    info = json.loads((out / "dataset.json").read_text())
    del info["densities"]
    (out / "dataset.json").write_text(json.dumps(info))
    assert "whole" in said(run(out, **of))
