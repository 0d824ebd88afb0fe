import numpy as np
import pytest
from scipy import ndimage

from napari_ectkd.errors import FileMissingError
from napari_ectkd.events import Cancel, CancelledError
from napari_ectkd.simulation import density
from napari_ectkd.simulation.config import (
    SubtomogramSettings,
    SubtomogramSimulation,
    TomogramSimulation,
)
from napari_ectkd.simulation.preview import preview_subtomograms
from napari_ectkd.simulation.simulator import Simulator, densities_of, signal_level


def preview(tmp_path, **changes):
    settings = {"out": tmp_path / "set", "per_class": 500, "none": 100, "box": 24}
    config = SubtomogramSimulation(**settings | {"voxel_size": 14.0} | changes)
    return preview_subtomograms(config, cancel=Cancel())


def test_one_of_each_class_with_the_noise_that_was_asked_for(tmp_path):
    found = preview(tmp_path, snr=0.2)
    assert found.classes[-1] == "none"
    assert len(found.classes) == 8
    assert found.volumes.shape == found.signal.shape == (8, 24, 24, 24)
    assert sorted(found.snr[:-1])[3] == pytest.approx(0.2)
    # One level for all; a subtomogram's own noise varies a little.
    noise = (found.volumes - found.signal).std(axis=(1, 2, 3))
    assert noise.max() < 1.05 * noise.min()
    level = np.array(found.snr[:-1]) * noise[:-1] ** 2
    np.testing.assert_allclose(found.signal[:-1].var(axis=(1, 2, 3)), level, rtol=0.35)


def test_other_noise_leaves_the_particles_as_they_are(tmp_path):
    one = preview(tmp_path, snr=0.2)
    other = preview(tmp_path, snr=0.02)
    np.testing.assert_array_equal(one.signal, other.signal)
    ratio = (other.volumes - other.signal) / (one.volumes - one.signal)
    np.testing.assert_allclose(np.median(ratio), 10**0.5, rtol=1e-3)
    turned = preview(tmp_path, snr=0.2, seed=1)
    assert not np.allclose(turned.signal, one.signal)


def test_per_particle_noise_and_projections(tmp_path):
    own = preview(tmp_path, snr=0.5, noise="per-particle", none=0)
    assert "none" not in own.classes
    noise = own.volumes - own.signal
    ratio = own.signal.var(axis=(1, 2, 3)) / noise.var(axis=(1, 2, 3))
    np.testing.assert_allclose(ratio, 0.5, rtol=0.1)
    seen = preview(tmp_path, snr=0.5, noise="projections", none=0)
    assert np.isfinite(seen.volumes).all()
    assert seen.volumes.std() > 0


def test_of_a_tomogram_particles_are_in_the_center(tmp_path):
    config = TomogramSimulation(
        out=tmp_path / "t.mrc",
        truth=tmp_path / "t.star",
        per_class=3,
        box=24,
        voxel_size=14.0,
        tilt_range=(-90, 90),
    )
    found = preview_subtomograms(config, cancel=Cancel())
    assert "none" not in found.classes
    for volume in found.signal:
        bright = np.clip(volume, 0, None)
        np.testing.assert_allclose(ndimage.center_of_mass(bright), 12, atol=0.3)


def test_what_is_clipped_is_said_and_what_is_missing_an_error(tmp_path):
    assert any("outside" in text for text in preview(tmp_path, box=18).warnings)
    with pytest.raises(FileMissingError):
        preview(tmp_path, density=[tmp_path / "nothing.mrc"])
    cancel = Cancel()
    cancel.request()
    config = SubtomogramSimulation(out=tmp_path / "x", per_class=1, voxel_size=14)
    with pytest.raises(CancelledError):
        preview_subtomograms(config, cancel=cancel)


def test_it_shows_what_would_be_made(tmp_path):
    found = preview(tmp_path, none=0, snr=0.3, contrast_spread=2, snr_spread=3)
    settings = SubtomogramSettings(
        per_class=1, box=24, voxel_size=14, snr=0.3, contrast_spread=2, snr_spread=3
    )
    densities = densities_of(settings)
    level = signal_level(settings, densities, Cancel())
    made = list(
        Simulator(settings, densities, level).make(
            np.arange(7), np.random.SeedSequence(settings.seed)
        )
    )
    voxels = np.concatenate([some.voxels.numpy() for some in made])
    np.testing.assert_array_equal(found.volumes, voxels)


def test_an_entry_that_cannot_be_downloaded_is_an_error_in_words(monkeypatch, tmp_path):
    def unplugged(path):
        raise FileMissingError(f"{path}: no network")

    monkeypatch.setattr(density, "fetch", unplugged)
    with pytest.raises(FileMissingError, match="no network"):
        preview(tmp_path, density=["pdb:4v4r"])
