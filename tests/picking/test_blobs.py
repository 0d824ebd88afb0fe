import gc
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter

from napari_ectkd.errors import ConfigError, DataError, FormatError
from napari_ectkd.evaluation.matching import match_picks
from napari_ectkd.events import Cancel, CancelledError, Progress
from napari_ectkd.io.picks import Picks
from napari_ectkd.io.star import read_picks
from napari_ectkd.io.tomogram import Tomogram, open_tomogram
from napari_ectkd.picking.blobs import SCORE, pick_blobs
from napari_ectkd.picking.config import PickConfig
from napari_ectkd.picking.gaussians import CUTOFF, BlobFilter
from napari_ectkd.simulation.config import TomogramSimulation
from napari_ectkd.simulation.tomogram import simulate_tomogram

VOXEL_SIZE = 10.0


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small tensors gain nothing from threads, and lose where other work goes on."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def drain(stream):
    events = []
    while True:
        try:
            events.append(next(stream))
        except StopIteration as stop:
            return stop.value, events


def pick(tomogram, **settings):
    config = PickConfig(**{"device": "cpu", **settings})
    return drain(pick_blobs(tomogram, config, cancel=Cancel()))[0]


def as_tomogram(voxels, voxel_size=VOXEL_SIZE, *, is_inverted=False):
    return Tomogram("t", Path("t.mrc"), voxels, voxel_size, is_inverted)


def balls(shape, centers, radius):
    """Balls with soft rims; all in voxels."""
    volume = np.zeros(shape, dtype=np.float32)
    grid = np.stack(np.indices(shape), axis=-1)
    for center in centers:
        distance = np.linalg.norm(grid - center, axis=-1)
        volume += 1 / (1 + np.exp(4 * (distance - radius)))
    return volume


@pytest.fixture(scope="module")
def crowd():
    """Ten balls of 200 Å in noise, signal to noise 0.1 in a box of 32 voxels."""
    rng = np.random.default_rng(1)
    centers = []
    while len(centers) < 10:
        center = rng.uniform(14, [49, 113, 113])
        if all(np.linalg.norm(center - other) > 21 for other in centers):
            centers.append(center)
    volume = balls((64, 128, 128), centers, 10)
    signal = balls((32, 32, 32), [(16, 16, 16)], 10).var()
    volume += rng.normal(0, np.sqrt(signal / 0.1), volume.shape).astype(np.float32)
    truth = Picks.create(np.array(centers) * VOXEL_SIZE, "t", label="ball")
    return as_tomogram(volume), truth


@pytest.mark.parametrize("diameter", [180, 200, 250])
def test_balls_in_noise_are_found_near_their_centers(crowd, diameter):
    tomogram, truth = crowd
    picks = pick(tomogram, diameter=diameter)
    pairs, misses, false_alarms = match_picks(picks, truth, 40)
    assert misses.size == 0
    assert len(false_alarms) < 40
    error = picks.positions[pairs[:, 0]] - truth.positions[pairs[:, 1]]
    assert np.linalg.norm(error, axis=1).mean() < 20
    assert (picks.tomogram == "t").all()
    assert not picks.is_labeled.any()


def test_real_complexes_of_many_sizes_are_found(shared_data, tmp_path):
    names = ["1bxn", "1qvr", "1u6g", "2cg9", "3cf3", "3d2f", "3h84", "4cr2", "4v4r"]
    config = TomogramSimulation(
        density=[shared_data / "densities_10A" / f"{name}.mrc" for name in names],
        per_class=4,
        shape=(80, 192, 192),
        out=tmp_path / "t.mrc",
        truth=tmp_path / "truth.star",
    )
    for _ in simulate_tomogram(config, cancel=Cancel()):
        pass
    truth = read_picks(config.truth)
    picks = pick(open_tomogram(config.out), diameter=200)
    pairs, _, false_alarms = match_picks(picks, truth, 100)
    assert len(pairs) > 0.95 * len(truth)
    assert len(false_alarms) < 2 * len(truth)
    error = picks.positions[pairs[:, 0]] - truth.positions[pairs[:, 1]]
    assert np.median(np.linalg.norm(error, axis=1)) < 20


@pytest.mark.parametrize("tile", [33, 50, 64])
def test_the_tiling_changes_nothing(crowd, tile):
    tomogram, _ = crowd
    whole = pick(tomogram, diameter=200, tile=1000, threshold=1.5)
    tiled = pick(tomogram, diameter=200, tile=tile, threshold=1.5)
    assert len(whole) > 50  # some of them weak
    np.testing.assert_allclose(tiled.positions, whole.positions, atol=0.01)
    np.testing.assert_allclose(tiled.foreign[SCORE], whole.foreign[SCORE], rtol=1e-3)


@pytest.mark.parametrize("diameter_px", [4, 9, 20, 40])
@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_the_position_of_a_lone_ball_is_not_biased(diameter_px, shift):
    side = 2 * diameter_px + 20
    center = np.array([side / 2 + shift, side / 2 - 3, side / 2 + 2 * shift])
    volume = balls((side,) * 3, [center], diameter_px / 2)
    noise = np.random.default_rng(0).normal(0, 1e-3, volume.shape)
    picks = pick(
        as_tomogram((volume + noise).astype(np.float32)),
        diameter=diameter_px * VOXEL_SIZE,
        max_picks=1,
    )
    error = np.abs(picks.positions[0] / VOXEL_SIZE - center).max()
    assert error < max(0.1, 0.01 * diameter_px)


def test_picks_scale_with_the_voxel_size(crowd):
    tomogram, _ = crowd
    smaller = as_tomogram(tomogram.voxels, 2.5)
    ours, theirs = pick(tomogram, diameter=200), pick(smaller, diameter=50)
    np.testing.assert_allclose(theirs.positions * 4, ours.positions, atol=1e-6)


def test_gray_values_may_have_any_scale_and_offset(crowd):
    tomogram, _ = crowd
    ours = pick(tomogram, diameter=200)
    changed = pick(as_tomogram(tomogram.voxels * 300 + 20_000), diameter=200)
    np.testing.assert_allclose(changed.positions, ours.positions, atol=1)


def test_dark_protein_is_found_in_an_inverted_tomogram(crowd):
    tomogram, truth = crowd
    dark = as_tomogram(-tomogram.voxels, is_inverted=True)
    np.testing.assert_array_equal(
        pick(dark, diameter=200).positions, pick(tomogram, diameter=200).positions
    )
    wrong = pick(as_tomogram(-tomogram.voxels), diameter=200)
    assert len(match_picks(wrong, truth, 40)[0]) < 5


def test_padding_with_a_constant_does_not_lower_the_threshold(crowd):
    tomogram, _ = crowd
    padded = np.full((256, 128, 128), 7, dtype=np.float32)
    padded[:64] += tomogram.voxels
    ours, theirs = (pick(t, diameter=200) for t in (tomogram, as_tomogram(padded)))
    assert (theirs.positions[:, 0] < 700).all()
    assert len(theirs) < 4 * len(ours)  # it would be hundreds


def test_settings_limit_the_picks(crowd):
    tomogram, _ = crowd
    picks = pick(tomogram, diameter=200, threshold=2)
    scores = picks.foreign[SCORE].to_numpy()
    assert (np.diff(scores) <= 0).all()
    assert scores.min() >= 2
    high = pick(tomogram, diameter=200, threshold=4)
    assert high.foreign[SCORE].min() >= 4
    assert len(high) < len(picks)
    few = pick(tomogram, diameter=200, threshold=2, max_picks=3)
    np.testing.assert_array_equal(few.positions, picks.positions[:3])
    apart = pick(tomogram, diameter=200, threshold=1.5, min_distance=300).positions
    between = np.linalg.norm(apart[:, None] - apart[None], axis=2)
    assert between[between > 0].min() > 300
    inner = pick(tomogram, diameter=200, threshold=1.5, border=150).positions
    assert (inner >= 150).all()
    assert (inner <= tomogram.extent - 150).all()
    assert len(pick(tomogram, diameter=200, threshold=1e6)) == 0


def test_where_memory_is_short_tiles_are_halved_and_nothing_is_changed(
    crowd, monkeypatch
):
    tomogram = crowd[0]
    response = BlobFilter.response
    most = 10**9
    sizes = []

    def with_little_memory(self, tomogram, spans, device):
        sizes.append(np.prod([b - a for a, b in spans]))
        if sizes[-1] > most:
            raise RuntimeError("CUDA error: out of memory")
        return response(self, tomogram, spans, device)

    monkeypatch.setattr(BlobFilter, "response", with_little_memory)
    whole = pick(tomogram, diameter=200, tile=1000, threshold=1.5)
    most = max(sizes) - 1
    config = PickConfig(diameter=200, tile=1000, threshold=1.5, device="cpu")
    stream = pick_blobs(tomogram, config, cancel=Cancel())
    events = []
    while True:
        try:
            events.append(next(stream))
        except StopIteration as end:
            found = end.value
            break
    noted = [event.text for event in events if event.kind == "noted"]
    assert noted == ["not enough memory: going on with smaller tiles"]
    assert events[-1].done == events[-1].total > 1
    np.testing.assert_allclose(found.positions, whole.positions, atol=0.01)
    np.testing.assert_allclose(found.foreign[SCORE], whole.foreign[SCORE], rtol=1e-3)
    most = 0
    with pytest.raises(RuntimeError, match="out of memory"):
        pick(tomogram, diameter=200)


def test_progress_comes_after_each_tile(crowd):
    config = PickConfig(diameter=200, tile=48, device="cpu")
    _, events = drain(pick_blobs(crowd[0], config, cancel=Cancel()))
    steps = [(e.stage, e.done, e.total) for e in events if isinstance(e, Progress)]
    assert steps == [("pick", i, len(events)) for i in range(1, len(events) + 1)]
    assert len(events) > 1


def test_cancel_ends_within_a_tile(crowd):
    cancel = Cancel()
    stream = pick_blobs(crowd[0], PickConfig(diameter=200, tile=48), cancel=cancel)
    next(stream)
    cancel.request()
    with pytest.raises(CancelledError):
        next(stream)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"diameter": 15}, "less than two voxels of t"),
        ({"diameter": 700}, "does not fit into t"),
        ({"diameter": 200, "border": 400}, "border of 400 Å leaves nothing"),
        ({"diameter": 200, "device": "abacus"}, "no device 'abacus'"),
    ],
)
def test_impossible_settings_are_errors_of_the_call(crowd, settings, message):
    with pytest.raises(ConfigError, match=message):
        pick_blobs(crowd[0], PickConfig(**settings), cancel=Cancel())


@pytest.mark.parametrize("diameter", [0, -5, "wide"])
def test_a_diameter_is_a_positive_number(diameter):
    with pytest.raises(ValidationError, match="diameter"):
        PickConfig(diameter=diameter)


def test_nan_voxels_are_an_error(crowd):
    voxels = crowd[0].voxels.copy()
    voxels[3, 50, 7] = np.nan
    with pytest.raises(FormatError, match="voxel \\(z 3, y 50, x 7\\)"):
        pick(as_tomogram(voxels), diameter=200)


def test_a_constant_tomogram_is_an_error():
    with pytest.raises(DataError, match="all voxels are the same"):
        pick(as_tomogram(np.full((40, 40, 40), 3, dtype=np.float32)), diameter=100)


def test_the_response_agrees_with_scipy(crowd):
    voxels = crowd[0].voxels
    blobs = BlobFilter.for_diameter(20)
    assert blobs.step > 1
    # Where both use whole kernels; scipy's cut-off is rounded to whole voxels.
    narrow, wide = (
        gaussian_filter(voxels.astype(float), sigma, truncate=CUTOFF)
        for sigma in (blobs.narrow_px, blobs.wide_px)
    )
    at = slice(16, 48, blobs.step)
    first = 16 // blobs.step
    spans = ((first, 48 // blobs.step),) * 3
    response = blobs.response(crowd[0], spans, torch.device("cpu")).numpy()
    expected = (narrow - wide)[at, at, at]
    np.testing.assert_allclose(response, expected, atol=0.02 * expected.std())


def test_memory_does_not_grow_with_the_tomogram(tmp_path):
    def peak(depth):
        path = tmp_path / f"{depth}.raw"
        rng = np.random.default_rng(0)
        rng.normal(size=(depth, 48, 48)).astype(np.float32).tofile(path)
        voxels = np.memmap(path, dtype=np.float32, mode="r", shape=(depth, 48, 48))
        gc.collect()
        tracemalloc.start()
        pick(as_tomogram(voxels), diameter=100, tile=32, threshold=5)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(48)  # what is imported and compiled once
    assert peak(256) < 1.5 * peak(96)
