import csv
from types import SimpleNamespace

import numpy as np
import pytest

from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.errors import DataError
from napari_ectkd.events import Cancel
from napari_ectkd.io.picks import Picks
from napari_ectkd.io.star import read_picks, write_picks
from napari_ectkd.training.config import SuspectConfig
from napari_ectkd.training.folds import make_folds
from napari_ectkd.training.suspects import find_suspects, suspect_labels


def test_confident_disagreement_by_hand():
    # Thresholds: mean of 0.9, 0.8, 0.1 = 0.6 for class 0; of 0.9, 0.7, 0.55 for 1.
    probabilities = np.array(
        [[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.1, 0.9], [0.3, 0.7], [0.45, 0.55]]
    )
    found = find_suspects(np.array([0, 0, 0, 1, 1, 1]), probabilities)
    assert found.index.tolist() == [2]
    assert found.suggested.tolist() == [1]
    assert found.margin == pytest.approx([-0.8])


def test_an_unsure_class_is_not_suspect_as_a_whole():
    """Its own threshold is low; the other's is high, and is not reached."""
    probabilities = np.array([[0.95, 0.05]] * 5 + [[0.6, 0.4]] * 5)
    found = find_suspects(np.array([0] * 5 + [1] * 5), probabilities)
    assert found.index.tolist() == []


def test_flipped_labels_are_found_first():
    random = np.random.default_rng(0)
    truth = random.integers(0, 4, 400)
    logits = 3 * np.eye(4)[truth] + random.normal(size=(400, 4)) * 0.7
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = truth.copy()
    flipped = random.choice(400, 30, replace=False)
    labels[flipped] = (labels[flipped] + 1 + random.integers(0, 3, 30)) % 4
    found = find_suspects(labels, probabilities)
    # It is careful: hardly a right label is named, and a part of the wrong ones not.
    assert np.isin(found.index, flipped).mean() > 0.95
    assert np.isin(flipped, found.index).mean() > 0.5
    right = np.isin(found.index, flipped)
    assert (found.suggested == truth[found.index])[right].mean() > 0.9
    assert (np.diff(found.margin) >= 0).all()


def placed(n, tomograms=1, seed=0):
    random = np.random.default_rng(seed)
    return SimpleNamespace(
        positions=random.uniform(0, [500, 2000, 900], (n, 3)),
        tomogram=np.array([f"t{i % tomograms}" for i in range(n)], dtype=object),
        box=10,
        voxel_size=10.0,
        __len__=lambda: n,
    )


class Data(SimpleNamespace):
    def __len__(self):
        return len(self.tomogram)


@pytest.mark.parametrize("tomograms", [1, 3])
def test_folds_hold_each_out_once_and_nothing_near_it_teaches(tomograms):
    data = Data(**vars(placed(200, tomograms)))
    folds = make_folds(data, np.zeros(200, dtype=int), 4, 0)
    held = np.concatenate([fold.validation for fold in folds])
    assert sorted(held) == list(range(200))
    for fold in folds:
        assert not set(fold.training) & set(fold.validation)
        assert len(fold.training) > 60
        for i in fold.training:
            same = fold.validation[data.tomogram[fold.validation] == data.tomogram[i]]
            apart = np.abs(data.positions[same] - data.positions[i]).max(axis=1)
            assert (apart >= 100).all()


def test_folds_deal_out_each_class():
    targets = np.repeat([0, 1, 2], [40, 8, 4])
    nan = np.full((52, 3), np.nan)
    data = Data(positions=nan, tomogram=np.full(52, ""), box=10, voxel_size=1.0)
    for fold in make_folds(data, targets, 4, 1):
        assert np.bincount(targets[fold.validation]).tolist() == [10, 2, 1]


def drain(stream):
    while True:
        try:
            next(stream)
        except StopIteration as end:
            return end.value


@pytest.fixture
def mislabeled(tmp_path, make_mrc):
    """Bright and dark blobs in a tomogram, one of each labeled as the other."""
    places = [(8, y, x) for y in range(8, 120, 16) for x in range(8, 64, 16)]
    voxels = np.random.default_rng(0).normal(size=(16, 128, 64)).astype(np.float32)
    for number, (z, y, x) in enumerate(places):
        sign = 1 if number % 2 else -1
        voxels[z - 3 : z + 4, y - 3 : y + 4, x - 3 : x + 4] += 3 * sign
    label = ["bright" if n % 2 else "dark" for n in range(len(places))]
    label[6], label[17] = "bright", "dark"
    path = tmp_path / "picks.star"
    picks = Picks.create(10.0 * np.array(places), "tomo", label=label)
    write_picks(path, picks, 10.0)
    tomogram = make_mrc(voxels, name="tomo.mrc")
    return DataConfig(data=[path], tomograms=[tomogram], box=12, invert=False)


QUICK = {"epochs": 15, "batch_size": 8, "precision": "float32", "folds": 2}


def test_mislabeled_picks_are_found_and_written(mislabeled, tmp_path):
    # Two of them are in one slab, and one network judges both.
    config = SuspectConfig(model="residual_small", device="cpu", shift=1, **QUICK)
    out = tmp_path / "suspects.star"
    result = drain(suspect_labels(mislabeled, config, out, cancel=Cancel()))
    assert result["n_labels"] == 28
    found = {row["row"] - 1: row for row in result["suspects"]}
    assert {6, 17} <= set(found)
    assert len(found) <= 6
    assert (found[6]["label"], found[6]["suggested"]) == ("bright", "dark")
    picks = read_picks(out)
    assert len(picks) == result["n"]
    assert list(picks.label) == [row["label"] for row in result["suspects"]]
    assert picks.prediction[0] == result["suspects"][0]["suggested"]
    table = tmp_path / "suspects.csv"
    drain(suspect_labels(mislabeled, config, table, cancel=Cancel()))
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["row"]) for row in rows] == [r["row"] for r in result["suspects"]]
    assert float(rows[0]["y"]) == result["suspects"][0]["y"]


def test_what_cannot_be_looked_through(phantoms, tmp_path):
    config = SuspectConfig(**QUICK)
    data = DataConfig(data=[phantoms])
    with pytest.raises(DataError, match=r"no STAR file; name a \.csv"):
        drain(suspect_labels(data, config, tmp_path / "a.star", cancel=Cancel()))
    many = SuspectConfig(**QUICK | {"folds": 3})
    with pytest.raises(DataError, match="too few labels"):
        drain(suspect_labels(data, many, tmp_path / "a.csv", cancel=Cancel()))
