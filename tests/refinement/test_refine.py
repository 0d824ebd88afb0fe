"""Hits that a person corrected, and what a model learns from them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import starfile
import torch

from napari_ectkd.cli.app import run as run_command
from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.errors import ConfigError, DataError
from napari_ectkd.io.picks import Picks
from napari_ectkd.io.stacks import StackInfo, StackWriter
from napari_ectkd.io.star import read_picks, write_picks
from napari_ectkd.models.checkpoint import (
    CheckpointInfo,
    Normalization,
    load_checkpoint,
)
from napari_ectkd.refinement.config import RefineConfig
from napari_ectkd.refinement.corrections import corrections_of
from napari_ectkd.refinement.refine import plan_refinement
from napari_ectkd.runs import Run

INFO = CheckpointInfo(
    model="compact",
    classes=["a", "b", "none"],
    box=24,
    voxel_size=10.0,
    normalization=Normalization(mode="data"),
    trained_by="train",
)


def hits(labels, predictions, confidence=None):
    n = len(labels)
    confidence = np.linspace(0.99, 0.5, n) if confidence is None else confidence
    table = pd.DataFrame({"a": confidence, "b": 1 - confidence, "none": np.zeros(n)})
    return Picks.create(
        np.full((n, 3), 200.0) + np.arange(n)[:, None] * 7,
        "tomogram",
        label=labels,
        prediction=predictions,
        confidence=confidence,
        probabilities=table,
    )


def test_labels_accept_correct_and_reject():
    found = hits(["a", "b", "none", "", "b"], ["a", "a", "a", "b", "b"])
    made = corrections_of(found, INFO)
    assert made.counts() == {
        "accepted": 2,
        "relabeled": 1,
        "rejected": 1,
        "not_used": 1,
    }
    assert list(made.picks.label) == ["a", "b", "none", "b"]
    assert list(made.picks.pick_id) == [1, 2, 3, 5]
    assert list(found.label) == ["a", "b", "none", "", "b"]


def test_sure_hits_are_accepted_if_asked_for():
    confidence = np.array([0.99, 0.9, 0.95, 0.4])
    found = hits(["", "", "none", ""], ["a", "b", "a", "unknown"], confidence)
    made = corrections_of(found, INFO, accept_above=0.95)
    assert list(made.picks.label) == ["a", "none"]
    assert made.counts()["not_used"] == 2
    assert list(corrections_of(found, INFO, 0.3).picks.label) == ["a", "b", "none"]


def test_labels_that_cannot_serve():
    with pytest.raises(DataError, match="none of the 2 hits has a label"):
        corrections_of(hits(["", ""], ["a", "b"]), INFO)
    with pytest.raises(
        DataError, match=r"are labeled c, ribosome, .* knows a, b, none"
    ):
        corrections_of(hits(["c", "ribosome", "a"], ["a", "b", "a"]), INFO)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Bright balls and bright disks to learn from, and in a tomogram; and a model.

    In the tomogram there are bars too, which no example showed to be nothing.
    """
    import mrcfile

    folder = tmp_path_factory.mktemp("world")
    random = np.random.default_rng(0)
    z, y, x = np.indices((24, 24, 24)) - 12

    def shape(kind):
        if kind == "ball":
            return (z**2 + y**2 + x**2 < 25) * 3.0
        if kind == "disk":
            return ((y**2 + x**2 < 64) & (abs(z) < 2)) * 3.0
        if kind == "bar":
            return ((y**2 + z**2 < 12) & (abs(x) < 11)) * 3.0
        return np.zeros((24, 24, 24))

    writer = StackWriter(
        folder / "data",
        StackInfo(classes=["ball", "disk", "none"], box=24, voxel_size=10.0),
    )
    labels = ["ball", "disk", "none"] * 24
    noisy = [shape(kind) + random.normal(0, 1, (24, 24, 24)) for kind in labels]
    writer.write(0, np.array(noisy, dtype=np.float32), labels)
    writer.finish(1)

    voxels = random.normal(0, 1, (32, 128, 128))
    places, kinds = [], []
    for i, kind in enumerate(["ball", "disk", "bar"] * 5 + ["bar"]):
        place = np.array([16, 14 + 33 * (i // 4), 14 + 33 * (i % 4)])
        corner = place - 12
        part = tuple(slice(c, c + 24) for c in corner)
        voxels[part] += shape(kind)
        places.append(place * 10.0)
        kinds.append(kind)
    with mrcfile.new(folder / "tomogram.mrc") as mrc:
        mrc.set_data(voxels.astype(np.float32))
        mrc.voxel_size = 10.0
    torch.set_num_threads(1)
    code = run_command(
        [
            *["train", "--data", str(folder / "data"), "--out", str(folder / "run")],
            *["--model", "compact", "--epochs", "25", "--batch-size", "16"],
            *["--precision", "float32"],
        ]
    )
    assert code == 0
    return folder, np.array(places), np.array(kinds)


def sweep(folder, model, out):
    code = run_command(
        [
            *["sweep", str(folder / "tomogram.mrc"), "--model", str(model)],
            *["--out", str(out), "--no-invert", "--min-confidence", "0.3"],
            *["--diameters.ball", "100", "--diameters.disk", "160"],
        ]
    )
    assert code == 0
    return read_picks(out)


def kinds_of(found, places, kinds):
    """What is really where each hit is; `none` where nothing is, or a bar."""
    distance = np.linalg.norm(found.positions[:, None] - places, axis=2)
    nearest = kinds[distance.argmin(axis=1)]
    names = np.where(distance.min(axis=1) < 80, nearest, "none")
    return np.where(names == "bar", "none", names)


def test_rejected_hits_are_not_found_again(world, tmp_path):
    folder, places, kinds = world
    found = sweep(folder, folder / "run", tmp_path / "hits.star")
    truth = kinds_of(found, places, kinds)
    wrong_before = (truth != found.prediction).sum()
    assert wrong_before >= 3
    found.label[:] = truth
    write_picks(tmp_path / "hits.star", found, 10.0)

    new = tmp_path / "refined"
    code = run_command(
        [
            *["refine", str(tmp_path / "hits.star"), "--model", str(folder / "run")],
            *["--tomograms", str(folder / "tomogram.mrc"), "--out", str(new)],
            *["--epochs", "40", "--precision", "float32", "--job", str(new)],
        ]
    )
    assert code == 0
    again = sweep(folder, new, tmp_path / "again.star")
    wrong = (kinds_of(again, places, kinds) != again.prediction).sum()
    assert wrong < wrong_before / 2
    right = kinds_of(again, places, kinds) == again.prediction
    assert right.sum() >= 8  # of 10 balls and disks

    _, info = load_checkpoint(new)
    assert info.trained_by == "refine"
    kept = Run(new).config()
    assert kept["kind"] == "refine"
    assert kept["data"]["data"].count(str(new / "corrections.star")) == 3
    table = starfile.read(new / "corrections.star")
    assert sorted(table["ectkdLabel"]) == sorted(truth)
    result = [e for e in Run(new).events() if e.kind == "finished"][-1].result
    assert result["rejected"] == (truth == "none").sum()
    assert result["not_used"] == 0


def test_a_checkpoint_alone_does_not_say_what_it_learned_from(world, tmp_path):
    folder, _, _ = world
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((folder / "run" / "best.safetensors").read_bytes())
    star = tmp_path / "hits.star"
    write_picks(star, hits(["ball"], ["ball"]), 10.0)
    arguments = [[star], [folder / "tomogram.mrc"], Run(tmp_path / "new")]
    with pytest.raises(ConfigError, match=r"what it was trained on.*--data"):
        plan_refinement(alone, *arguments, RefineConfig())
    old = DataConfig(data=[folder / "data"])
    plan = plan_refinement(alone, *arguments, RefineConfig(weight=2), old)
    assert len(plan.data.data) == 3
    assert plan.data.box == 24
    assert plan.learning.model == "compact"
    assert not (tmp_path / "new").exists()


def test_a_tomogram_that_is_named_twice_is_one(world, tmp_path):
    folder, _, _ = world
    star = tmp_path / "hits.star"
    write_picks(star, hits(["ball"], ["ball"]), 10.0)
    tomogram = folder / "tomogram.mrc"
    old = DataConfig(data=[folder / "data"], tomograms=[tomogram])
    run = Run(tmp_path / "new")
    plan = plan_refinement(folder / "run", [star], [tomogram], run, RefineConfig(), old)
    assert plan.data.tomograms == [tomogram.resolve()]
    assert plan.voxel_sizes == {"tomogram": 10.0}


def test_a_refinement_that_was_cancelled_goes_on(world, tmp_path, monkeypatch):
    folder, places, _ = world
    star, cut, whole = (tmp_path / name for name in ("hits.star", "cut", "whole"))
    chosen = Picks.create(places[:6], "tomogram", label=["ball", "disk", "none"] * 2)
    write_picks(star, chosen, 10.0)
    command = [
        *["refine", str(star), "--model", str(folder / "run"), "--tomograms"],
        *[str(folder / "tomogram.mrc"), "--epochs", "3", "--precision", "float32"],
    ]
    assert run_command([*command, "--out", str(whole)]) == 0
    log = Run.log

    def log_and_cancel(run, event):
        log(run, event)
        if event.kind == "epoch_end" and event.epoch == 2:
            run.request_cancel()

    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", log_and_cancel)
        assert run_command([*command, "--out", str(cut)]) != 0
    assert Run(cut).resume_path.exists()
    assert run_command(["refine", "--out", str(cut), "--resume"]) == 0
    [ours], [theirs] = (
        [e.result for e in Run(path).events() if e.kind == "finished"]
        for path in (cut, whole)
    )
    assert ours["not_used"] == theirs["not_used"] == 0
    assert ours["rejected"] == 2
    one, other = (load_checkpoint(path)[0].state_dict() for path in (cut, whole))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_a_refinement_needs_is_said(tmp_path, capsys):
    assert run_command(["refine", "--out", str(tmp_path / "new")]) == 2
    assert "name the hits, the model" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
