"""What a run says of its data, its machine, and its model."""

import json
import shutil

import mrcfile
import numpy as np
import pytest
import torch

from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.dataset.sources import load_dataset
from napari_ectkd.events import Cancel, Finished, Noted
from napari_ectkd.io.picks import Picks
from napari_ectkd.io.star import write_picks
from napari_ectkd.models.checkpoint import read_info
from napari_ectkd.training.provenance import environment, fingerprint, repeatability


def opened(config):
    stream = load_dataset(config, cancel=Cancel())
    while True:
        try:
            next(stream)
        except StopIteration as end:
            return end.value


def print_of(config):
    return fingerprint(config, opened(config))


@pytest.fixture
def picked(tmp_path, make_mrc):
    """A tomogram and its labeled picks, and a function that writes them."""
    noise = np.random.default_rng(0).normal(size=(20, 30, 30)).astype(np.float32)
    tomogram = make_mrc(noise, name="tomo.mrc")
    places = np.random.default_rng(1).uniform(90, 110, (6, 3))

    def write(label="aabbab", places=places, name="picks.star"):
        path = tmp_path / name
        write_picks(path, Picks.create(places, "tomo", label=list(label)), 10.0)
        return DataConfig(data=[path], tomograms=[tomogram], box=8, invert=False)

    return write


def test_the_fingerprint_follows_labels_places_and_headers(picked, tmp_path):
    first = print_of(picked())
    assert len(first) == 64
    assert print_of(picked(name="same.star")) == first
    assert print_of(picked("abbbab")) != first
    moved = np.random.default_rng(1).uniform(90, 110, (6, 3)) + 0.5
    assert print_of(picked(places=moved)) != first
    config = picked()
    with mrcfile.open(tmp_path / "tomo.mrc", "r+") as mrc:
        mrc.header.label[1] = b"changed"
    assert print_of(config) != first


def test_moved_data_has_the_same_fingerprint(phantoms, tmp_path):
    copy = shutil.copytree(phantoms, tmp_path / "elsewhere" / "copy")
    first, second = (print_of(DataConfig(data=[p])) for p in (phantoms, copy))
    assert first == second
    stack = next(copy.glob("*.mrc"))
    with mrcfile.open(stack, "r+") as mrc:
        mrc.header.dmax = 77
    assert print_of(DataConfig(data=[copy])) != first


def test_the_environment_is_json():
    found = environment(torch.device("cpu"))
    assert json.loads(json.dumps(found)) == found
    assert found["packages"]["torch"] == torch.__version__.split("+")[0] or found[
        "packages"
    ]["torch"].startswith(torch.__version__.split("+")[0])
    assert found["threads"] == torch.get_num_threads()
    assert found["device_name"]
    assert "same weights" in repeatability(torch.device("cpu"))
    assert "similar and not equal" in repeatability(torch.device("cuda"))


def test_a_run_leaves_environment_examples_and_a_card(learn):
    stream, run = learn(validation_fraction=0.5, license="CC-BY-4.0")
    result = next(e.result for e in stream if isinstance(e, Finished))
    [session] = json.loads(run.environment_path.read_text())
    card = json.loads(run.card_path.with_suffix(".json").read_text())
    assert session["data"] == card["data"]["fingerprint"] != ""
    assert card["metrics"]["val_accuracy"] == result["val_accuracy"]
    assert card["report"] == result["report"]
    assert card["license"] == read_info(run.path).license == "CC-BY-4.0"
    labels = card["data"]["labels"]
    assert sum(n["training"] + n["validation"] for n in labels.values()) == 16
    text = run.card_path.read_text()
    assert text.startswith("# run\n")
    for wanted in (
        f"accuracy {result['val_accuracy']:.1%}",
        session["data"][:16],
        "the same seed and data give the same weights",
        "License of the weights: CC-BY-4.0",
        *(f"| {name} |" for name in card["classes"]),
    ):
        assert wanted in text
    with np.load(run.examples_path) as examples:
        assert examples["slices"].shape == (12, 2, 24, 24)
        assert set(examples["label"]) <= set(card["classes"])
        assert len(set(examples["label"])) == len(card["classes"])
        assert np.isfinite(examples["slices"]).all()


def test_changed_data_is_said_when_a_run_is_resumed(learn, picked, monkeypatch):
    config = picked()
    settings = {"epochs": 3, "validation_fraction": 0, "model": "residual_small"}
    stream, run = learn(data=config, **settings)
    while not run.resume_path.exists():
        next(stream)
    stream.close()
    picked("bbbbab")
    stream, run = learn(data=config, is_resumed=True, **settings)
    texts = [e.text for e in stream if isinstance(e, Noted) and e.is_warning]
    assert any("not what this run began with" in text for text in texts)
    assert len(json.loads(run.environment_path.read_text())) == 2
