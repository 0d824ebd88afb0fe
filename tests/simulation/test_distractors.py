"""Membranes and gold, measured in the tomogram."""

from __future__ import annotations

import mrcfile
import numpy as np
import pytest
import starfile
from scipy import ndimage

from napari_ectkd.errors import DataError
from napari_ectkd.events import Cancel
from napari_ectkd.simulation import membranes, noise
from napari_ectkd.simulation.config import TomogramSimulation
from napari_ectkd.simulation.tomogram import simulate_tomogram

SIZE = 6.0
SHAPE = (84, 150, 140)


def _config(folder, density, **changes):
    settings = {
        "out": folder / "tomo.mrc",
        "truth": folder / "truth.star",
        "labels": folder / "labels.mrc",
        "density": [density],
        "shape": SHAPE,
        "voxel_size": SIZE,
        "volume_fraction": 0.04,
        "membranes": 3,
        "gold": 4,
        "snr": 1e8,
        "tilt_range": (-90, 90),
        "seed": 5,
    }
    return TomogramSimulation(**(settings | changes))


def _ball_map(path):
    z, y, x = np.mgrid[:17, :17, :17] - 8
    voxels = np.clip(6.5 - np.sqrt(z**2 + y**2 + x**2), 0, 1).astype(np.float32)
    with mrcfile.new(path) as mrc:
        mrc.set_data(voxels)
        mrc.voxel_size = SIZE
    return path


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("busy")
    config = _config(folder, _ball_map(folder / "ball.mrc"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise, "_N_ORIENTATIONS", 16)  # SNR is not so exact, but soon
        *_, finished = simulate_tomogram(config, cancel=Cancel())
    with mrcfile.open(config.labels) as mrc:
        notes = mrc.get_labels()
    return (
        mrcfile.read(config.out).astype(float),
        mrcfile.read(config.labels).astype(int),
        starfile.read(config.truth),
        finished.result["labels"],
        notes,
    )


def test_particles_come_first_then_membranes_then_gold(busy):
    _, labels, truth, spans, notes = busy
    n = len(truth)
    assert spans == {
        "particles": (1, n),
        "membranes": (n + 1, n + 3),
        "gold": (n + 4, n + 7),
    }
    assert notes[1:] == [
        f"labels 1 to {n}: particles",
        f"labels {n + 1} to {n + 3}: membranes",
        f"labels {n + 4} to {n + 7}: gold",
    ]
    np.testing.assert_array_equal(np.unique(labels), np.arange(n + 8))
    assert set(truth["ectkdLabel"]) == {"ball"}


def test_nothing_overlaps(busy):
    """What lies beneath another thing would be smaller than the rest of its kind."""
    _, labels, truth, spans, _ = busy
    sizes = np.bincount(labels.ravel())
    balls = sizes[1 : len(truth) + 1]
    assert balls.min() > 0.93 * balls.max()
    first, last = spans["gold"]
    expected = 4 / 3 * np.pi * (50 / SIZE) ** 3
    np.testing.assert_allclose(sizes[first : last + 1], expected, rtol=0.03)


def _off_the_middle(points):
    """Return how far voxels of a membrane are from a surface fitted to them."""
    moments, axes = np.linalg.eigh(np.cov(points.T))
    if moments[0] < 0.05 * moments[1]:  # a sheet: height over a plane, slightly bent
        height, u, v = (points @ axes).T
        columns = np.column_stack([np.ones(len(u)), u, v, u * u, u * v, v * v])
        return height - columns @ np.linalg.lstsq(columns, height, rcond=None)[0]
    # A sphere: |p|² = 2 c·p + (R² − |c|²).
    columns = np.column_stack([2 * points, np.ones(len(points))])
    *center, rest = np.linalg.lstsq(columns, (points**2).sum(axis=1), rcond=None)[0]
    radius = np.sqrt(rest + np.dot(center, center))
    return np.linalg.norm(points - center, axis=1) - radius


def test_leaflets_are_40_angstroms_apart(busy):
    volume, labels, _, spans, _ = busy
    first, last = spans["membranes"]
    for label in range(first, last + 1):
        points = np.argwhere(labels == label).astype(float)
        off = _off_the_middle(points - points.mean(axis=0)) * SIZE
        values = volume[tuple(points.astype(int).T)]
        bins = np.arange(-30, 31, 4.0)
        which = np.digitize(off, bins)
        at = (bins[1:] + bins[:-1]) / 2
        mean = np.array([values[which == i].mean() for i in range(1, len(bins))])
        inner = at[at < 0][mean[at < 0].argmax()]
        outer = at[at > 0][mean[at > 0].argmax()]
        assert outer - inner == pytest.approx(40, abs=6)
        middle = mean[np.abs(at) < 5].mean()
        assert middle < 0.2 * mean.max()
        assert 0.7 < mean.max() < 1.3


def test_profile_has_the_same_mass_at_any_voxel():
    distance = np.arange(-100, 100, 0.1)
    fine = membranes.profile(distance, 0.5)
    peaks = distance[1:-1][(np.diff(fine)[:-1] > 0) & (np.diff(fine)[1:] <= 0)]
    np.testing.assert_allclose(peaks, (-20, 20), atol=0.2)
    coarse = membranes.profile(distance, 14.0)
    assert coarse.sum() == pytest.approx(fine.sum(), rel=0.01)


def test_gold_is_a_dense_ball(busy):
    volume, labels, _, spans, _ = busy
    first, last = spans["gold"]
    ids = np.arange(first, last + 1)
    peak = ndimage.median(volume, labels, ids)
    np.testing.assert_allclose(peak, 10, rtol=0.1)
    particle = ndimage.median(volume, labels, [1])[0]
    assert (peak > 7 * particle).all()
    mass = ndimage.sum(volume, labels, ids) * SIZE**3
    np.testing.assert_allclose(mass, 10 * 4 / 3 * np.pi * 50**3, rtol=0.1)


def test_membranes_without_room(tmp_path):
    config = _config(
        tmp_path, _ball_map(tmp_path / "b.mrc"), membranes=60, shape=(30, 60, 60)
    )
    with pytest.raises(DataError, match="--membranes"):
        list(simulate_tomogram(config, cancel=Cancel()))


def test_the_same_seed_gives_the_same_files(tmp_path, simulate):
    density = _ball_map(tmp_path / "ball.mrc")
    for name in "ab":
        (tmp_path / name).mkdir()
        simulate(_config(tmp_path / name, density, shape=(60, 80, 80), membranes=1))
    for file in ("tomo.mrc", "labels.mrc", "truth.star"):
        one, two = ((tmp_path / name / file).read_bytes() for name in "ab")
        assert one == two, file
