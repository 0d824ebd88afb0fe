from __future__ import annotations

import numpy as np
import pytest
import starfile
from scipy import ndimage

from napari_ectkd.errors import ConfigError, DataError, FileMissingError
from napari_ectkd.events import Cancel, CancelledError
from napari_ectkd.io.stacks import open_stacks
from napari_ectkd.simulation.config import SubtomogramSimulation
from napari_ectkd.simulation.noise import check_fit
from napari_ectkd.simulation.orientations import random_rotations
from napari_ectkd.simulation.phantoms import phantoms
from napari_ectkd.simulation.poses import Sampler
from napari_ectkd.simulation.scenes import draw_scenes
from napari_ectkd.simulation.subtomograms import simulate_subtomograms

CLEAN = 1e8
ANGLES = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]
ORIGINS = ["rlnOriginZAngst", "rlnOriginYAngst", "rlnOriginXAngst"]


def _config(out, **changes):
    settings = {"per_class": 4, "none": 6, "box": 32, "seed": 3, "out": out}
    return SubtomogramSimulation(**(settings | changes))


def _volumes(folder):
    _, volumes, labels = open_stacks(folder)
    return np.stack(volumes).astype(np.float64), np.array(labels)


@pytest.fixture(scope="module")
def clean_and_noisy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for name, snr in (("clean", CLEAN), ("noisy", 0.1)):
        config = _config(folder / name, per_class=16, none=12, snr=snr)
        list(simulate_subtomograms(config, cancel=Cancel()))
    return folder


def test_noise_level_and_snr_of_each_class(clean_and_noisy):
    clean, labels = _volumes(clean_and_noisy / "clean")
    noisy, _ = _volumes(clean_and_noisy / "noisy")
    info, _, _ = open_stacks(clean_and_noisy / "noisy")
    noise = (noisy - clean).var(axis=(1, 2, 3))
    # One level for all, whatever the class.
    np.testing.assert_allclose(noise, noise.mean(), rtol=0.05)
    signal = clean.var(axis=(1, 2, 3))
    measured = {name: signal[labels == name].mean() / noise.mean() for name in info.snr}
    for name, snr in info.snr.items():
        assert snr == pytest.approx(measured[name], rel=0.1), name
    assert sorted(info.snr.values())[3] == pytest.approx(0.1)
    assert np.median(list(measured.values())) == pytest.approx(0.1, rel=0.1)


def test_noise_has_the_wedge_too(clean_and_noisy):
    clean, _ = _volumes(clean_and_noisy / "clean")
    noisy, _ = _volumes(clean_and_noisy / "noisy")
    power = (np.abs(np.fft.fftn(noisy - clean, axes=(1, 2, 3))) ** 2).mean(axis=0)
    k = np.fft.fftfreq(32)
    kz, kx = np.abs(k)[:, None, None], np.abs(k)
    outside = np.broadcast_to(kz > np.tan(np.radians(60)) * kx + 1e-6, power.shape)
    outside = outside.copy()
    outside[0, 0, 0] = False
    # float32 through a file leaves rounding alone.
    assert power[outside].max() < 1e-8 * power[~outside].mean()


def test_signal_lacks_the_wedge(clean_and_noisy):
    clean, labels = _volumes(clean_and_noisy / "clean")
    window = np.hanning(32)
    window = window[:, None, None] * window[:, None] * window
    spectrum = np.fft.fftn(clean[labels == "shell"] * window, axes=(1, 2, 3))
    power = (np.abs(spectrum) ** 2).mean(axis=0)
    along_beam = power[4:8, 0, 0].mean()
    across = power[0, 0, 4:8].mean()
    assert along_beam < 0.05 * across


def test_poses_in_the_table_rebuild_the_signal(clean_and_noisy):
    """RELION's angles and origins, read back, put the density where it is."""
    table = starfile.read(clean_and_noisy / "clean" / "subtomograms.star")
    clean, labels = _volumes(clean_and_noisy / "clean")
    helix = next(d for d in phantoms(10.0) if d.name == "helix")
    rows = np.flatnonzero(labels == "helix")[:6]
    for row in rows:
        a, b, g = np.radians(table[ANGLES].iloc[row].to_numpy(float))
        matrices = [
            np.array([[np.cos(t), -np.sin(t), 0], [np.sin(t), np.cos(t), 0], [0, 0, 1]])
            for t in (-a, -g)
        ]
        about_y = np.array(
            [[np.cos(b), 0, -np.sin(b)], [0, 1, 0], [np.sin(b), 0, np.cos(b)]]
        )
        reference_to_particle = matrices[1] @ about_y @ matrices[0]
        shift = -table[ORIGINS].iloc[row].to_numpy(float) / 10
        assert np.linalg.norm(shift) <= 2
        # scipy's own interpolation in place of ours.
        to_density = reference_to_particle.T[::-1, ::-1]
        rebuilt = ndimage.affine_transform(
            helix.voxels,
            to_density,
            offset=16 - to_density @ (16 + shift),
            output_shape=(32, 32, 32),
            order=1,
        )
        assert np.corrcoef(rebuilt.ravel(), clean[row].ravel())[0, 1] > 0.8


def test_none_has_no_particle_at_its_center(clean_and_noisy):
    clean, labels = _volumes(clean_and_noisy / "clean")
    none = clean[labels == "none"]
    center = np.abs(none[:, 15:18, 15:18, 15:18]).mean(axis=(1, 2, 3))
    assert center.max() < 0.25
    # A third is empty; others hold part of a particle.
    largest = none.max(axis=(1, 2, 3))
    assert (largest < 0.01).sum() >= 4
    assert (largest > 0.5).sum() >= 4


def test_table_and_facts(clean_and_noisy):
    info, volumes, labels = open_stacks(clean_and_noisy / "noisy")
    assert info.classes == [d.name for d in phantoms(10.0)] + ["none"]
    assert info.simulation["seed"] == 3
    assert info.tilt_range == (-60, 60)
    assert len(volumes) == 7 * 16 + 12
    assert labels.count("none") == 12
    table = starfile.read(clean_and_noisy / "noisy" / "subtomograms.star")
    assert not table[table["ectkdLabel"] == "none"][ANGLES + ORIGINS].any(axis=None)


def test_same_seed_same_bytes_other_seed_others(tmp_path, simulate):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        simulate(_config(tmp_path / name, per_class=2, box=24, none=2, seed=seed))
    stacks = [(tmp_path / n / "subtomograms_0000.mrc").read_bytes() for n in "abc"]
    tables = [(tmp_path / n / "subtomograms.star").read_text() for n in "abc"]
    assert stacks[0] == stacks[1] != stacks[2]
    rows = ["\n".join(t.splitlines()[2:]) for t in tables]  # without the date
    assert rows[0] == rows[1] != rows[2]


def test_per_particle_noise(tmp_path, simulate):
    kinds = {"noise": "per-particle", "none": 3, "neighbors": 0.5}
    simulate(_config(tmp_path / "clean", snr=CLEAN, **kinds))
    _, events = simulate(_config(tmp_path / "noisy", snr=0.2, **kinds))
    clean, labels = _volumes(tmp_path / "clean")
    noisy, _ = _volumes(tmp_path / "noisy")
    ratio = clean.var(axis=(1, 2, 3)) / (noisy - clean).var(axis=(1, 2, 3))
    np.testing.assert_allclose(ratio[labels != "none"], 0.2, rtol=0.05)
    assert any("normalized by itself" in e.text for e in events if e.kind == "noted")
    info, _, _ = open_stacks(tmp_path / "noisy")
    assert info.noise == "per-particle"
    assert set(info.snr.values()) == {0.2}


def test_neighbors_do_not_overlap_the_particle(tmp_path):
    densities = phantoms(10.0)
    config = _config(tmp_path, per_class=40, neighbors=1, none=30)
    classes = np.r_[np.repeat(np.arange(7), 40), np.full(30, -1)]
    scenes = draw_scenes(config, densities, classes, np.random.default_rng(0))
    radius = np.array([d.radius / 10 for d in densities])
    n = 7 * 40
    assert np.array_equal(scenes.scene[: 2 * n], np.tile(np.arange(n), 2))
    apart = np.linalg.norm(scenes.shift_px[:n] - scenes.shift_px[n : 2 * n], axis=1)
    least = radius[scenes.density[:n]] + radius[scenes.density[n : 2 * n]]
    assert (apart >= least - 1e-9).all()
    off = np.linalg.norm(scenes.shift_px[:n], axis=1)
    assert off.max() <= 2
    # Uniform in the ball: half of the points lie beyond 2^(-1/3) of its radius.
    assert np.median(off) == pytest.approx(2 * 2 ** (-1 / 3), rel=0.06)
    alone = draw_scenes(
        _config(tmp_path), densities, np.arange(7), np.random.default_rng(0)
    )
    assert len(alone.scene) == 7


def test_center_stays_at_half_the_box(lopsided):
    sampler = Sampler(lopsided)
    rotations = random_rotations(5, np.random.default_rng(0))
    offset = np.array(ndimage.center_of_mass(lopsided.voxels)) - 6
    for box in (24, 25):
        boxes = sampler.sample(rotations, np.zeros((5, 3)), box).numpy()
        for volume, rotation in zip(boxes, rotations, strict=True):
            expected = box // 2 + (rotation @ offset[::-1])[::-1]
            np.testing.assert_allclose(
                ndimage.center_of_mass(volume), expected, atol=0.03
            )


def test_cancel_stops_and_leaves_an_unfinished_folder(tmp_path):
    cancel = Cancel()
    events = simulate_subtomograms(
        _config(tmp_path / "out", per_class=20), cancel=cancel
    )
    assert next(events).kind == "progress"
    cancel.request()
    with pytest.raises(CancelledError):
        next(events)
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_errors_come_at_the_call(tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    (full / "x").write_text("")
    cases = [
        (_config(full), ConfigError, "not an empty folder"),
        (
            _config(tmp_path / "a", density=[tmp_path / "no"]),
            FileMissingError,
            "no such",
        ),
        (_config(tmp_path / "b", box=12), DataError, "take a larger box"),
    ]
    for config, kind, text in cases:
        with pytest.raises(kind, match=text) as caught:
            simulate_subtomograms(config, cancel=Cancel())
        assert "\n" not in str(caught.value)


def test_clipped_densities_are_told():
    (warning, *_) = check_fit(phantoms(10.0)[4:5], 22)
    assert warning.is_warning
    assert "ring is 24 voxels wide" in warning.text
