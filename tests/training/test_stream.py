"""Training on simulations that are made meanwhile."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.errors import ConfigError, FileMissingError, FormatError
from napari_ectkd.events import Cancel
from napari_ectkd.models.checkpoint import load_checkpoint
from napari_ectkd.simulation import noise
from napari_ectkd.simulation.config import SubtomogramSettings
from napari_ectkd.simulation.settings_file import read_settings
from napari_ectkd.training.config import TrainConfig
from napari_ectkd.training.resume import seed_epoch
from napari_ectkd.training.stream import prepare_stream
from napari_ectkd.training.workers import Workers

CPU = torch.device("cpu")
SETTINGS = SubtomogramSettings(
    per_class=4, none=4, box=24, voxel_size=14, snr=20, off_center=0, seed=5
)


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(noise, "_N_ORIENTATIONS", 16)


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text(SETTINGS.model_dump_json())
    return DataConfig(stream=path)


def drained(stream):
    while True:
        try:
            next(stream)
        except StopIteration as end:
            return end.value


def source(data, workers=None, **settings):
    defaults = {"batch_size": 8, "shift": 0, "rotations": False}
    config = TrainConfig(**defaults | settings)
    material = drained(prepare_stream(data, config, Cancel()))
    return material, material.batches(config, CPU, workers or Workers())


def epoch(batches, number, seed=0):
    parts = [
        loaded.part(slice(None))
        for loaded in batches.epoch(number, seed_epoch(seed, number))
    ]
    volumes = torch.cat([part.volumes for part in parts])[:, 0]
    return volumes.numpy(), torch.cat([part.targets for part in parts]).numpy()


def test_an_epoch_is_balanced_normalized_and_new(data):
    new = data.model_copy(update={"stream_reuse": 1})
    material, batches = source(new)
    assert len(batches) == 4
    assert material.n_training == 32
    volumes, targets = epoch(batches, 1)
    assert volumes.shape == (32, 24, 24, 24)
    assert np.array_equal(np.bincount(targets), [4] * 8)
    kept = material.data.read(material.split.validation)
    assert volumes.mean() == pytest.approx(kept.mean(), abs=0.05)
    assert volumes.std() == pytest.approx(kept.std(), rel=0.1)
    # Nothing comes twice, not in the next epoch or the validation part either.
    others, _ = epoch(batches, 2)
    together = np.concatenate([volumes, others, kept]).reshape(72, -1)
    assert len(np.unique(together, axis=0)) == len(together) == 64 + len(kept)


def test_labels_fit_what_is_seen(data):
    """The nearest of the validation part's class means is mostly the label's."""
    material, batches = source(data.model_copy(update={"stream_reuse": 1}))
    spectra = {}
    volumes, targets = epoch(batches, 1)
    kept = material.data.read(material.split.validation)
    truth = material.targets[material.split.validation]

    def described(some):
        # Blind to the orientation: gray values by distance from the center.
        grid = np.mgrid[:24, :24, :24] - 12
        shell = np.sqrt((grid**2).sum(axis=0)).astype(int).ravel()
        flat = np.sort(some.reshape(len(some), -1), axis=1)[:, ::-64]
        rings = [some.reshape(len(some), -1)[:, shell == r].mean(1) for r in range(12)]
        return np.c_[np.stack(rings, axis=1), flat / 8]

    here, there = described(volumes), described(kept)
    for label in np.unique(truth):
        spectra[label] = there[truth == label].mean(axis=0)
    nearest = [min(spectra, key=lambda c: np.abs(spectra[c] - d).sum()) for d in here]
    assert np.mean(np.array(nearest) == targets) > 0.6


def test_each_is_shown_so_often_and_epochs_follow_from_their_number(data):
    reused = data.model_copy(update={"stream_reuse": 2})
    _, batches = source(reused)
    first, _ = epoch(batches, 1)
    distinct, counts = np.unique(first.reshape(32, -1), axis=0, return_counts=True)
    assert len(distinct) == 16
    assert (counts == 2).all()
    second, targets = epoch(batches, 2)
    # As a resumed run, which never saw the first epoch.
    _, resumed = source(reused)
    again, same = epoch(resumed, 2)
    np.testing.assert_array_equal(again, second)
    np.testing.assert_array_equal(same, targets)
    _, other = source(reused, seed=1)
    assert not np.array_equal(epoch(other, 2)[0], second)


def test_processes_make_different_shares(data):
    shares = [epoch(source(data, Workers(rank, 2))[1], 1) for rank in (0, 1)]
    assert [len(volumes) for volumes, _ in shares] == [16, 16]
    assert not np.array_equal(shares[0][0], shares[1][0])


def test_examples_show_the_classes_in_turn(data):
    material, batches = source(data)
    batch = batches.examples(12, torch.Generator().manual_seed(0))
    assert batch.targets.tolist() == [*range(8), 0, 1, 2, 3]
    assert batch.volumes.shape == (12, 1, 24, 24, 24)
    assert material.classes[-1] == "none"


def test_a_run_resumed_ends_as_one_never_interrupted(data, learn):
    stream, whole = learn("whole", data=data, epochs=3)
    *_, finished = stream
    assert finished.kind == "finished"
    assert finished.result["val_accuracy"] >= 0
    stream, part = learn("part", data=data, epochs=3)
    for event in stream:
        if event.kind == "epoch_end" and event.epoch == 2:
            break  # the state of the first is saved
    stream.close()
    stream, part = learn("part", data=data, epochs=3, is_resumed=True)
    assert next(e for e in stream if "going on" in getattr(e, "text", ""))
    *_, _ = stream
    weights = [load_checkpoint(run.last_path)[0].state_dict() for run in (whole, part)]
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name


def test_settings_are_taken_from_a_data_set_too(phantoms):
    settings = read_settings(phantoms)
    assert (settings.per_class, settings.box, settings.snr) == (2, 24, 20)


def test_bad_settings_are_one_line(tmp_path, data, phantoms):
    broken, strange = tmp_path / "broken.json", tmp_path / "strange.json"
    broken.write_text("{")
    strange.write_text(json.dumps({"per_class": 0, "what": 1}))
    for path, kind, text in (
        (tmp_path / "no.json", FileMissingError, "no such file"),
        (broken, FormatError, "no settings of a simulation"),
        (strange, FormatError, "per_class.*what"),
    ):
        with pytest.raises(kind, match=text) as caught:
            read_settings(path)
        assert "\n" not in str(caught.value)
    both = data.model_copy(update={"data": [phantoms]})
    with pytest.raises(ConfigError, match="at once"):
        drained(prepare_stream(both, TrainConfig(), Cancel()))


def test_classes_of_a_stream_are_balanced_by_its_settings(data, learn):
    stream, _ = learn(data=data, balance=0.5, epochs=1)  # an earlier version took it
    said = next(e for e in stream if "not balance" in getattr(e, "text", ""))
    assert "how often each class comes" in said.text
    stream.close()
