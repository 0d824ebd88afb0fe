from __future__ import annotations

from itertools import combinations

import mrcfile
import numpy as np
import pytest
import starfile

from napari_ectkd.errors import ConfigError, DataError
from napari_ectkd.events import Cancel, CancelledError
from napari_ectkd.simulation.config import TomogramSimulation
from napari_ectkd.simulation.phantoms import phantoms
from napari_ectkd.simulation.tomogram import simulate_tomogram

SHAPE = (48, 96, 112)
COORDINATES = ["rlnCoordinateZ", "rlnCoordinateY", "rlnCoordinateX"]


def _config(folder, **changes):
    settings = {
        "out": folder / "tomo.mrc",
        "truth": folder / "truth.star",
        "shape": SHAPE,
        "per_class": 2,
        "margin": 0,
        "seed": 1,
    }
    return TomogramSimulation(**(settings | changes))


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """A tomogram of all tilts and hardly any noise, with its truth."""
    folder = tmp_path_factory.mktemp("tomogram")
    config = _config(folder, snr=1e8, tilt_range=(-90, 90))
    list(simulate_tomogram(config, cancel=Cancel()))
    return mrcfile.read(config.out), starfile.read(config.truth)


def test_particles_are_where_the_truth_says(clean):
    volume, truth = clean
    assert volume.shape == SHAPE
    assert volume.dtype == np.float32
    density = {d.name: d for d in phantoms(10.0)}
    index = np.stack(np.mgrid[tuple(slice(n) for n in SHAPE)], axis=-1)
    total = 0.0
    for _, row in truth.iterrows():
        position = row[COORDINATES].to_numpy(float)
        squares = ((index - position) ** 2).sum(axis=-1)
        radius = density[row["ectkdLabel"]].radius / 10
        inside = volume * (squares <= radius**2)
        expected = float(density[row["ectkdLabel"]].voxels.sum())
        total += expected
        assert inside.sum() == pytest.approx(expected, rel=0.04)
        center = (index * inside[..., None]).sum(axis=(0, 1, 2)) / inside.sum()
        np.testing.assert_allclose(center, position, atol=0.15)
    assert volume.sum() == pytest.approx(total, rel=0.01)


def test_truth_has_the_orientation(clean):
    """The longest axis of each dumbbell, by RELION's formula and by its moments."""
    volume, truth = clean
    index = np.stack(np.mgrid[tuple(slice(n) for n in SHAPE)], axis=-1)
    rows = truth[truth["ectkdLabel"] == "dumbbell"]
    assert len(rows) == 2
    for _, row in rows.iterrows():
        offset = index - row[COORDINATES].to_numpy(float)
        inside = volume * ((offset**2).sum(axis=-1) <= 13**2)
        moments = np.einsum("zyx,zyxi,zyxj->ij", inside, offset, offset)
        longest = np.linalg.eigh(moments)[1][:, -1][::-1]
        rot, tilt, psi = np.radians(
            row[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy(float)
        )
        # The density's x axis, the first column of Euler_angles2matrix.
        axis = np.array(
            [
                np.cos(psi) * np.cos(tilt) * np.cos(rot) - np.sin(psi) * np.sin(rot),
                -np.sin(psi) * np.cos(tilt) * np.cos(rot) - np.cos(psi) * np.sin(rot),
                np.sin(tilt) * np.cos(rot),
            ]
        )
        assert abs(axis @ longest) > 0.99
        # And which end is which: the larger ball lies at -x.
        along = offset[..., ::-1] @ axis
        assert inside[along < -3].sum() > inside[along > 3].sum()


def test_spheres_around_particles_do_not_overlap(clean):
    _, truth = clean
    radius = {d.name: d.radius / 10 for d in phantoms(10.0)}
    rows = list(
        zip(truth[COORDINATES].to_numpy(float), truth["ectkdLabel"], strict=True)
    )
    for (a, first), (b, second) in combinations(rows, 2):
        # Spheres are sets of whole voxels.
        assert np.linalg.norm(a - b) >= radius[first] + radius[second] - 1
    for position, name in rows:
        assert (position >= radius[name] - 1).all()
        assert (position <= np.array(SHAPE) - radius[name]).all()


def test_truth_names_the_tomogram_and_the_voxel(clean):
    _, truth = clean
    assert set(truth["rlnTomoName"]) == {"tomo"}
    assert set(truth["rlnPixelSize"].astype(float)) == {10.0}
    assert truth["ectkdLabel"].value_counts().to_dict() == {
        d.name: 2 for d in phantoms(10.0)
    }


def test_noise_level_contrast_and_wedge(tmp_path, simulate):
    small = {"per_class": 1, "shape": (40, 80, 96)}
    for name in ("clean", "noisy", "dark"):
        (tmp_path / name).mkdir()
    simulate(_config(tmp_path / "clean", snr=1e8, **small))
    result, _ = simulate(_config(tmp_path / "noisy", snr=0.1, **small))
    dark, _ = simulate(_config(tmp_path / "dark", snr=0.1, invert=True, **small))
    clean, noisy, inverted = (
        mrcfile.read(tmp_path / name / "tomo.mrc")
        for name in ("clean", "noisy", "dark")
    )
    np.testing.assert_array_equal(inverted, -noisy)
    assert dark == result
    noise = noisy.astype(float) - clean
    power = np.abs(np.fft.fftn(noise)) ** 2
    kz = np.abs(np.fft.fftfreq(40))[:, None, None]
    kx = np.abs(np.fft.fftfreq(96))
    outside = np.broadcast_to(kz > np.tan(np.radians(60)) * kx + 1e-6, power.shape)
    outside = outside.copy()
    outside[0, 0, 0] = False
    assert power[outside].max() < 1e-6 * power[~outside].mean()
    assert sorted(result["snr"].values())[3] == pytest.approx(0.1)
    with mrcfile.open(tmp_path / "clean" / "tomo.mrc") as mrc:
        assert float(mrc.voxel_size.x) == 10.0


def test_snr_of_a_single_particle(tmp_path, make_mrc, simulate):
    shell = next(d for d in phantoms(10.0) if d.name == "shell")
    path = make_mrc(shell.voxels, 10.0, "maps/shell.mrc")
    volumes = []
    for name, snr in (("clean", 1e8), ("noisy", 0.2)):
        (tmp_path / name).mkdir()
        config = _config(
            tmp_path / name, density=[path], per_class=1, shape=(64, 64, 64), snr=snr
        )
        result, _ = simulate(config)
        volumes.append(mrcfile.read(config.out).astype(float))
    assert result["snr"] == {"shell": pytest.approx(0.2)}
    clean, noisy = volumes
    # The variance that the particle has in a box of 32, wherever in 64 it lies.
    signal = (clean**2).sum() / 32**3 - (clean.sum() / 32**3) ** 2
    assert signal / (noisy - clean).var() == pytest.approx(0.2, rel=0.1)


def test_same_seed_same_bytes(tmp_path, simulate):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        simulate(_config(tmp_path / name, per_class=1, shape=(32, 64, 96)))
    one, two = ((tmp_path / name / "tomo.mrc").read_bytes() for name in "ab")
    assert one == two


def test_too_many_particles_say_how_many_fit(tmp_path):
    config = _config(tmp_path, per_class=40, shape=(32, 64, 64))
    with pytest.raises(DataError, match=r"room for \d+ of 280 particles") as caught:
        list(simulate_tomogram(config, cancel=Cancel()))
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="28 voxels wide does not fit"):
        list(simulate_tomogram(_config(tmp_path, shape=(24, 64, 64)), cancel=Cancel()))
    same = tmp_path / "x.mrc"
    with pytest.raises(ConfigError, match="a file each"):
        simulate_tomogram(_config(tmp_path, out=same, truth=same), cancel=Cancel())


def test_cancel_stops(tmp_path):
    cancel = Cancel()
    events = simulate_tomogram(_config(tmp_path), cancel=cancel)
    assert next(events).kind == "progress"
    cancel.request()
    with pytest.raises(CancelledError):
        next(events)
    assert not (tmp_path / "tomo.mrc").exists()


def test_centers_keep_half_a_box_from_the_faces(tmp_path):
    config = _config(tmp_path, shape=(96, 96, 96), per_class=1, margin=None, box=32)
    list(simulate_tomogram(config, cancel=Cancel()))
    truth = starfile.read(config.truth)
    positions = truth[COORDINATES].to_numpy()
    assert (positions >= 16).all()
    assert (positions <= 95 - 16).all()
