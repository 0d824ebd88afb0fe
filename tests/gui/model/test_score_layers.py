"""Layers of scores show what the model says of the crop at each place."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from napari_ectkd.dataset.normalize import tomogram_statistics
from napari_ectkd.events import Cancel
from napari_ectkd.gui.score_layers import score_layer
from napari_ectkd.gui.score_maps import KeepScores, ScoreMaps
from napari_ectkd.gui.storage import ProjectFolder
from napari_ectkd.io.scores import open_scores
from napari_ectkd.io.tomogram import open_tomogram
from napari_ectkd.io.tomogram_list import TomogramEntry
from napari_ectkd.models.checkpoint import load_checkpoint, save_checkpoint
from napari_ectkd.prediction.batch import in_this_process, make_tasks, run_tasks
from napari_ectkd.prediction.config import SweepConfig

pytest.importorskip("zarr")
BOX, STRIDE, TEMPERATURE = 24, 4, 1.7


@pytest.fixture
def path(tomogram_file):
    """Return a tomogram in which some boxes fit."""
    return tomogram_file("swept", shape=(48, 56, 60))


@pytest.fixture
def model(write_model):
    """Return a calibrated model."""
    facts = {"temperature": TEMPERATURE, "min_confidence": 0, "n": 9}
    facts |= {"error_before": 0.2, "error_after": 0.1, "precision": 0.9, "kept": 1}
    return write_model("compact", calibration=facts)


@pytest.fixture
def sweep(path, model):
    """Sweep a tomogram into the results folder of its project; return its scores."""

    def run(batch="sweep-compact", path=path):
        out = ProjectFolder.beside(path).path / "results" / batch
        entry = TomogramEntry(path=path, is_inverted=False)
        config = SweepConfig(device="cpu", tile=40)
        tasks = make_tasks([entry], model, config, out, scores=out / "scores")
        for _ in run_tasks(tasks, out, in_this_process, cancel=Cancel()):
            pass
        return out / "scores" / f"{path.stem}.zarr"

    return run


@pytest.fixture
def maps(another_session, sweep, path):
    """Return the chooser of maps, of a tomogram that is open and was swept."""
    sweep()
    session = another_session()
    session.open_tomogram(path, is_inverted=False)
    yield ScoreMaps(session)
    session.save()


def choose(maps, name):
    rows = {maps.choice.itemText(i): i for i in range(maps.choice.count())}
    maps.choice.setCurrentIndex(rows[name])


def shown(maps):
    layers = maps._session.viewer.layers
    return [x for x in layers if "probability" in x.name and x.visible]


def test_the_probability_is_that_of_the_crop(sweep, path, model):
    scores = sweep()
    layers = [score_layer(scores, name, "#ff0000").data for name in ("ring", "shell")]
    network, info = load_checkpoint(model)
    tomogram = open_tomogram(path, is_inverted=False)
    statistics = tomogram_statistics(tomogram, info.voxel_size)

    @settings(max_examples=25, deadline=None)
    @given(*[st.integers(0, n - 1) for n in layers[0].shape])
    def check(z, y, x):
        first = STRIDE * np.array([z, y, x])
        region = tuple(slice(a, a + BOX) for a in first)
        crop = (np.array(tomogram.voxels[region]) - statistics.mean) / statistics.std
        with torch.no_grad():
            logits = network(torch.from_numpy(crop.astype(np.float32))[None, None])
        expected = softmax(logits[0].numpy() / TEMPERATURE)
        for data, wanted in zip(layers, expected, strict=False):
            assert data[z, y, x] == pytest.approx(wanted, abs=1e-3)

    check()


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_parts_are_those_of_the_whole(whole, data):
    array, expected = whole
    key = tuple(
        data.draw(
            st.one_of(
                st.integers(-n, n - 1),
                st.slices(n).filter(lambda s: (s.step or 1) > 0),
            )
        )
        for n in array.shape
    )
    assert array[key].shape == expected[key].shape
    np.testing.assert_allclose(array[key], expected[key], atol=1e-6)
    np.testing.assert_allclose(np.asarray(array), expected, atol=1e-6)


@pytest.fixture
def whole(sweep, tomogram_file):
    path = tomogram_file("deep", shape=(100, 48, 52))  # several slabs
    scores = sweep(path=path)
    logits = open_scores(scores).logits[:] / TEMPERATURE
    return score_layer(scores, "ring", "#ff0000").data, softmax(logits, axis=0)[0]


def test_a_place_is_the_same_in_scores_and_tomogram(maps):
    session = maps._session
    image = session.layers.image("swept")
    choose(maps, "ring")
    [layer] = shown(maps)
    assert layer.units == image.units
    for index in ([0, 0, 0], [3, 5, 1], np.array(layer.data.shape) - 1):
        voxel = BOX // 2 + STRIDE * np.array(index)
        np.testing.assert_allclose(
            layer.data_to_world(index), image.data_to_world(voxel)
        )
    # The session takes it for neither a tomogram nor picks.
    assert list(session.tomograms) == ["swept"]
    assert session.layers.image("swept") is image


def test_only_the_chosen_class_is_shown_in_its_color(maps):
    session = maps._session
    names = [maps.choice.itemText(i) for i in range(maps.choice.count())]
    assert names == ["no class", "ring", "shell"]  # none is no map
    assert shown(maps) == []
    choose(maps, "ring")
    choose(maps, "shell")
    [layer] = shown(maps)
    assert layer.blending == "additive"
    assert layer.contrast_limits == [0, 1]
    session.add_class("ring")
    session.add_class("shell")
    session.set_color("shell", "#0080ff")
    np.testing.assert_allclose(
        layer.colormap.map([0.0, 1.0]),
        [[0, 128 / 255, 1, 0], [0, 128 / 255, 1, 1]],
        atol=1e-3,
    )
    assert len([x for x in session.viewer.layers if "probability" in x.name]) == 2
    active = session.viewer.layers.selection.active
    assert active is session.layers.points("swept")
    assert session.viewer.layers.index(layer) < session.viewer.layers.index(active)
    session.viewer.layers.remove(layer)  # by its user: it can be chosen again
    assert maps.choice.value() is None
    choose(maps, "shell")
    assert len(shown(maps)) == 1


def test_maps_go_with_their_tomogram(maps, tomogram_file):
    session = maps._session
    choose(maps, "ring")
    session.open_tomogram(tomogram_file("other"), is_inverted=False)
    assert shown(maps) == []
    assert maps.choice.count() == 1
    session.set_current("swept")
    assert "MB in" in maps.text.text()
    choose(maps, "ring")
    session.viewer.layers.remove(session.layers.image("swept"))
    assert not [x for x in session.viewer.layers if "probability" in x.name]


def test_a_map_that_another_sweep_wrote_is_shown_anew(maps, sweep, model):
    choose(maps, "ring")
    [layer] = shown(maps)
    before = np.asarray(layer.data)
    network, info = load_checkpoint(model)
    with torch.no_grad():
        network.head.bias += torch.tensor([3.0, 0, 0])
    save_checkpoint(model, network, info)
    sweep()
    maps.refresh()
    assert shown(maps) == [layer]
    assert (np.asarray(layer.data) > before + 0.1).all()


def test_maps_of_several_models_and_of_another_day(maps, sweep, another_session):
    sweep(batch="sweep-other")
    maps.refresh()
    names = {maps.choice.itemText(i) for i in range(maps.choice.count())}
    assert {"ring, sweep-other", "ring, sweep-compact"} <= names
    path = maps._session.current.path
    later = another_session()
    later.open_tomogram(path)
    again = ScoreMaps(later)
    assert {again.choice.itemText(i) for i in range(again.choice.count())} == names
    later.save()


def test_without_zarr_no_maps_are_kept(qtbot, monkeypatch):
    assert KeepScores().isEnabled()
    monkeypatch.setattr("napari_ectkd.gui.score_maps.find_spec", lambda name: None)
    box = KeepScores()
    assert not box.isEnabled()
    assert "pip install 'napari-ectkd[zarr]'" in box.toolTip()
