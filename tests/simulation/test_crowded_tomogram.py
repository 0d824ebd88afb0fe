"""Crowded tomograms and the label volume, by scipy alone."""

from __future__ import annotations

import mrcfile
import numpy as np
import pytest
import starfile
from scipy import ndimage
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from napari_ectkd.errors import DataError
from napari_ectkd.events import Cancel
from napari_ectkd.simulation import noise, packing
from napari_ectkd.simulation.config import TomogramSimulation
from napari_ectkd.simulation.labels import write_labels
from napari_ectkd.simulation.phantoms import phantoms
from napari_ectkd.simulation.tomogram import simulate_tomogram

SHAPE = (56, 112, 120)
COORDINATES = ["rlnCoordinateZ", "rlnCoordinateY", "rlnCoordinateX"]
ANGLES = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]
THICKNESS = 480.0


def _config(folder, **changes):
    settings = {
        "out": folder / "tomo.mrc",
        "truth": folder / "truth.star",
        "labels": folder / "labels.mrc",
        "shape": SHAPE,
        "volume_fraction": 0.18,
        "thickness": THICKNESS,
        "snr": 1e8,
        "tilt_range": (-90, 90),
        "seed": 3,
    }
    return TomogramSimulation(**(settings | changes))


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crowd")
    config = _config(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise, "_N_ORIENTATIONS", 16)  # SNR is not so exact, but soon
        *_, finished = simulate_tomogram(config, cancel=Cancel())
    return (
        mrcfile.read(config.out),
        mrcfile.read(config.labels),
        starfile.read(config.truth),
        finished.result,
    )


def test_labels_are_rows_of_the_truth(crowd):
    _, labels, truth, result = crowd
    assert labels.dtype == np.uint16
    ids, sizes = np.unique(labels, return_counts=True)
    np.testing.assert_array_equal(ids, np.arange(len(truth) + 1))
    assert result["n"] == len(truth)
    # Were they to overlap, the one below would be smaller than others of its class.
    for name, rows in truth.groupby("ectkdLabel").groups.items():
        of_class = sizes[1:][list(rows)]
        assert of_class.min() > 0.85 * of_class.max(), name


def test_labels_lie_where_the_truth_says(crowd):
    _, labels, truth, _ = crowd
    centers = ndimage.center_of_mass(labels > 0, labels, np.arange(1, len(truth) + 1))
    # Masks are not densities, so their centers differ a little.
    np.testing.assert_allclose(centers, truth[COORDINATES], atol=0.8)


def test_share_of_the_ice(crowd):
    _, labels, truth, result = crowd
    measured = (labels > 0).sum() / (THICKNESS / 10 * SHAPE[1] * SHAPE[2])
    assert measured == pytest.approx(0.18, rel=0.05)
    assert result["volume_fraction"] == pytest.approx(measured)
    counts = truth["ectkdLabel"].value_counts()
    assert set(counts.index) == {d.name for d in phantoms(10.0)}
    assert counts.max() - counts.min() <= 1


def test_all_lies_within_the_ice(crowd):
    volume, labels, _, _ = crowd
    planes = np.flatnonzero((labels > 0).any(axis=(1, 2)))
    assert planes.min() >= 4
    assert planes.max() < 52
    outside = np.abs(volume[[0, 1, 2, 53, 54, 55]])
    assert outside.max() < 0.2 * volume.max()


def test_crowded_particles_are_closer_than_their_spheres(crowd):
    _, _, truth, _ = crowd
    radius = {d.name: d.radius / 10 for d in phantoms(10.0)}
    radii = truth["ectkdLabel"].map(radius).to_numpy()
    positions = truth[COORDINATES].to_numpy(float)
    pairs = KDTree(positions).query_pairs(2 * radii.max(), output_type="ndarray")
    apart = np.linalg.norm(positions[pairs[:, 0]] - positions[pairs[:, 1]], axis=1)
    assert (apart < radii[pairs].sum(axis=1) - 1).mean() > 0.1


def test_angles_turn_the_density_into_the_tomogram(crowd):
    """Each particle, turned by scipy, beside a mirrored one and one turned back."""
    volume, labels, truth, _ = crowd
    density = {d.name: d.voxels for d in phantoms(10.0)}
    for index, row in truth[truth["ectkdLabel"] == "helix"].iterrows():
        # RELION: intrinsic ZYZ of (rot, tilt, psi) takes the particle to the reference.
        to_reference = Rotation.from_euler("ZYZ", row[ANGLES].astype(float), True)
        matrix = to_reference.as_matrix()
        where = np.argwhere(labels == index + 1)
        offset = where - row[COORDINATES].to_numpy(float)
        found = volume[tuple(where.T)]

        def agreement(turn, voxels=density["helix"], offset=offset, found=found):
            at = (offset[:, ::-1] @ turn.T)[:, ::-1] + voxels.shape[0] // 2
            expected = ndimage.map_coordinates(voxels, at.T, order=1)
            return np.corrcoef(expected, found)[0, 1]

        assert agreement(matrix) > 0.9
        assert agreement(matrix.T) < 0.5
        assert agreement(matrix, density["helix"][::-1]) < 0.5


def test_a_gap_between_shapes(tmp_path, simulate):
    config = _config(tmp_path, volume_fraction=0.05, gap=50.0, seed=0)
    simulate(config)
    labels, truth = mrcfile.read(config.labels), starfile.read(config.truth)
    shells = [np.argwhere(labels == i + 1) for i in range(len(truth))]
    trees = [KDTree(points) for points in shells]
    for i, tree in enumerate(trees):
        for other in shells[i + 1 :]:
            nearest, _ = tree.query(other, distance_upper_bound=5.0)
            assert nearest.min() > 5 - 1e-9


def test_spheres_with_a_volume_fraction(tmp_path, simulate):
    config = _config(tmp_path, volume_fraction=0.03, packing="spheres")
    simulate(config)
    truth = starfile.read(config.truth)
    radius = {d.name: d.radius / 10 for d in phantoms(10.0)}
    radii = truth["ectkdLabel"].map(radius).to_numpy()
    positions = truth[COORDINATES].to_numpy(float)
    pairs = KDTree(positions).query_pairs(2 * radii.max(), output_type="ndarray")
    apart = np.linalg.norm(positions[pairs[:, 0]] - positions[pairs[:, 1]], axis=1)
    assert (apart >= radii[pairs].sum(axis=1) - 1).all()


def test_a_share_that_cannot_be_reached(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "_TRIES", 4096)
    config = _config(tmp_path, volume_fraction=0.55, shape=(40, 48, 48), thickness=400)
    with pytest.raises(DataError, match=r"room for \d+ of \d+.*smaller --volume-frac"):
        list(simulate_tomogram(config, cancel=Cancel()))
    config = _config(tmp_path, volume_fraction=0.001, shape=(40, 48, 48))
    with pytest.raises(DataError, match="less than one particle"):
        list(simulate_tomogram(config, cancel=Cancel()))
    config = _config(tmp_path, thickness=100)
    with pytest.raises(DataError, match="make --shape or --thickness larger"):
        list(simulate_tomogram(config, cancel=Cancel()))
    assert not list(tmp_path.iterdir())


def test_how_many_is_stated_once(tmp_path):
    for changes in ({"per_class": 3}, {"volume_fraction": None}):
        with pytest.raises(ValueError, match=r"either .*--per-class.*--volume-frac"):
            _config(tmp_path, **changes)


def test_many_labels_are_floats(tmp_path):
    labels = np.zeros((4, 5, 6), np.int32)
    labels[1, 2, 3] = 70_001
    write_labels(tmp_path / "l.mrc", labels, {"particles": (1, 70_001)}, 7.0)
    with mrcfile.open(tmp_path / "l.mrc") as mrc:
        np.testing.assert_array_equal(mrc.data, labels)
        assert mrc.get_labels()[1] == "labels 1 to 70001: particles"
        assert float(mrc.voxel_size.x) == 7.0
    assert mrcfile.validate(tmp_path / "l.mrc")
