from __future__ import annotations

import mrcfile
import numpy as np
import pytest
import starfile
import torch
from scipy.spatial.transform import Rotation

from napari_ectkd.io.stacks import open_stacks
from napari_ectkd.simulation.config import SubtomogramSimulation, TomogramSimulation
from napari_ectkd.simulation.ctf import Optics
from napari_ectkd.simulation.imaging_config import ImagingConfig
from napari_ectkd.simulation.phantoms import phantoms
from napari_ectkd.simulation.poses import Sampler
from napari_ectkd.simulation.projection_imaging import Place, ProjectionImaging
from napari_ectkd.simulation.tilt import wedge_mask

PERFECT = {"ctf": "none", "dose": 0, "mtf": 1, "structural_noise": 0, "thickness": 0}
VOXEL = 10.0


def imaging(**settings):
    return ProjectionImaging(ImagingConfig(noise="projections", **settings), VOXEL)


@pytest.mark.parametrize(
    "settings",
    [PERFECT, {}, {"ctf": "phase-flipped"}, {"dual_axis": True}],
    ids=["perfect", "plain", "flipped", "dual"],
)
def test_a_box_is_imaged_as_in_a_tomogram(settings):
    volume = torch.zeros(1, 48, 64, 80)
    volume[0, 23:26, 30:33, 38:43] = 1
    volume[0, 27, 34, 36] = 2
    maker = imaging(**settings)
    inside = (slice(None), slice(None), slice(8, 56), slice(16, 64))
    whole = maker.signal(volume)[inside]
    box = maker.signal(volume[inside].contiguous())
    middle = (slice(None), *[slice(12, 36)] * 3)
    difference = (whole - box)[middle].std() / box[middle].std()
    assert difference < 0.03


@pytest.mark.parametrize("shape", [(24, 24, 24), (25, 25, 25), (24, 32, 40)])
def test_noise_has_mean_0_and_variance_1(shape):
    noise = imaging().noise(shape, torch.Generator().manual_seed(0), 8)
    assert noise.shape == (8, *shape)
    assert noise.mean().abs() < 0.02
    assert noise.var() == pytest.approx(1, abs=0.03)


def test_noise_follows_from_its_generator():
    maker = imaging()
    first, same, other = (
        maker.noise((16, 16, 16), torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_dense_tilts_reconstruct_what_they_see():
    transfer = imaging(**PERFECT)._box_transfer(48)
    k = np.fft.fftfreq(48)
    angle = np.degrees(np.arctan2(np.abs(k[:, None, None]), np.fft.rfftfreq(48)))
    angle = np.broadcast_to(angle, transfer.shape)
    radius = np.hypot(k[:, None, None], np.fft.rfftfreq(48))
    # Within Crowther's limit, and away from the edge of the range.
    dense = np.broadcast_to((radius > 0.1) & (radius < 0.35), transfer.shape)
    assert transfer[dense & (angle < 52)].mean() == pytest.approx(1, abs=0.01)
    assert transfer[dense & (angle > 70)].square().mean() < 0.003


def test_wedge_of_signal_and_noise():
    """A limited range leaves of white power what its wedge leaves, and none beyond."""
    maker, n = imaging(**PERFECT), 48
    seen = wedge_mask((n, n, n), (-61.5, 61.5))  # half a step beyond the last tilt
    white = torch.randn((2, n, n, n), generator=torch.Generator().manual_seed(0))
    signal = maker.signal(white)
    # Where tilts are dense, the wedge is what is missing.
    transfer = maker._box_transfer(n)
    near = torch.fft.fftfreq(n)[:, None, None] ** 2 + torch.fft.fftfreq(n)[:, None] ** 2
    dense = (near + torch.fft.rfftfreq(n) ** 2).sqrt() < 0.35
    share = seen[dense].mean()
    assert transfer[dense].mean() == pytest.approx(share, abs=0.02)
    # Its border is blurred, which takes a little more of the energy.
    assert transfer[dense].square().mean() == pytest.approx(share, abs=0.04)
    noise = maker.noise((n, n, n), torch.Generator().manual_seed(1), 2)
    for volumes in (signal, noise):
        power = torch.fft.rfftn(volumes, dim=(1, 2, 3)).abs().square().mean(dim=0)
        inside = float(power[seen].mean())
        # A crop blurs the border of the wedge; deep within there is hardly anything.
        deep = ~wedge_mask((n, n, n), (-75, 75))
        assert float(power[deep].mean()) < 0.02 * inside


def test_noise_is_weighted_by_the_ramp():
    noise = imaging(**PERFECT).noise((48,) * 3, torch.Generator().manual_seed(0), 4)
    power = torch.fft.rfftn(noise, dim=(1, 2, 3)).abs().square().mean(dim=(0, 2))
    # Averaged along y: of (kz, kx), on the axis of kx, where a slice lies in the plane.
    row = power[0, 4:21].numpy()
    k = np.arange(4, 21)
    slope = np.polyfit(np.log(k), np.log(row), 1)[0]
    assert slope == pytest.approx(1, abs=0.15)


def test_zeros_of_the_ctf_are_in_the_reconstruction():
    settings = PERFECT | {"ctf": "plain", "defocus": 6.0, "tilt_step": 2}
    transfer = imaging(**settings)._box_transfer(96)
    # The mean over the dense part of planes at the same frequency, against k = 1 / d.
    k = np.fft.fftfreq(96) / VOXEL
    kz, ky, kx = np.meshgrid(k, k, np.abs(k[:49]), indexing="ij")
    radius = np.sqrt(kz**2 + ky**2 + kx**2)
    dense = np.abs(kz) < np.tan(np.radians(50)) * kx
    shells = np.linspace(0.012, 0.045, 67)
    values = [
        float(transfer[torch.from_numpy(dense & (abs(radius - s) < 5e-4))].mean())
        for s in shells
    ]
    crossings = shells[:-1][np.diff(np.sign(values)) != 0] + 2.5e-4
    wavelength, aberration = 0.0196875, 2.7e7
    phases = np.pi * wavelength * 6e4 * shells**2
    phases -= np.pi / 2 * aberration * wavelength**3 * shells**4
    phases += np.arcsin(0.07)
    analytic = [np.interp(n * np.pi, phases, shells) for n in (1, 2)]
    np.testing.assert_allclose(crossings[:2], analytic, atol=5e-4)


def test_flipped_phases_are_positive():
    settings = PERFECT | {"ctf": "phase-flipped", "tilt_step": 2, "defocus": 6}
    transfer = imaging(**settings)._box_transfer(48)
    k = torch.fft.fftfreq(48)
    dense = (k[:, None, None] ** 2 + k[:, None] ** 2 + k[:25] ** 2).sqrt() < 0.4
    seen = torch.from_numpy(wedge_mask((48,) * 3, (-50, 50))) & dense
    assert (transfer[seen] < -0.1).float().mean() < 0.001
    plain = imaging(**settings | {"ctf": "plain"})._box_transfer(48)
    assert (plain[seen] < -0.1).float().mean() > 0.2


def test_dual_axis_sees_all_but_a_pyramid():
    n, k = 48, np.fft.fftfreq(48)
    both = imaging(**PERFECT, dual_axis=True)._box_transfer(n).numpy()
    single = imaging(**PERFECT)._box_transfer(n).numpy()
    kz, ky, kx = np.meshgrid(k, k, np.fft.rfftfreq(n), indexing="ij")
    limit = np.abs(kz) / np.tan(np.radians(61.5))
    radius = np.sqrt(kz**2 + ky**2 + kx**2)
    shell = (radius > 0.1) & (radius < 0.35)
    filled = shell & (kx < 0.5 * limit) & (np.abs(ky) > 2 * limit)
    pyramid = shell & (kx < 0.5 * limit) & (np.abs(ky) < 0.5 * limit)
    assert both[filled].mean() == pytest.approx(1, abs=0.03)
    assert abs(single[filled].mean()) < 0.03
    assert abs(both[pyramid].mean()) < 0.03
    # What both series see is not counted twice.
    common = shell & (kx > 2 * limit) & (np.abs(ky) > 2 * limit)
    assert both[common].mean() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("ctf", ["plain", "phase-flipped"])
@pytest.mark.parametrize("axes", [False, True], ids=["single", "dual"])
def test_defocus_follows_from_the_place_in_a_tomogram(ctf, axes):
    """A box is imaged by its place as the tomogram is there."""
    settings = PERFECT | {"ctf": ctf, "dual_axis": axes, "defocus": 0.5}
    config = ImagingConfig(noise="projections", **settings)
    size = 2.0  # so that little height makes a difference
    volume = torch.zeros(1, 64, 160, 176)
    particle = torch.zeros(48, 48, 48)
    detail = torch.randn(6, 6, 6, generator=torch.Generator().manual_seed(0))
    particle[21:27, 21:27, 21:27] = detail
    volume[0, 14:62, 4:52, 120:168] = particle  # around (z, y, x) = (38, 28, 144)
    place = Place(size * (38 - 32), size * (28 - 80), size * (144 - 88))
    whole = ProjectionImaging(config, size).signal(volume)[0, 14:62, 4:52, 120:168]
    middle = (slice(14, 34),) * 3

    def difference(where):
        box = ProjectionImaging(config, size, where).signal(particle[None])[0]
        return float((whole - box)[middle].std() / whole[middle].std())

    if ctf == "phase-flipped":
        # Signs are turned in strips of the image, and strips have borders.
        assert difference(place) < 0.1
    else:
        assert difference(place) < 0.05
        # It matters: in the middle, or at the mirrored place, it is another image.
        others = [Place(), Place(-place.z, -place.y, -place.x)]
        assert min(difference(where) for where in others) > 2.5 * difference(place)


def test_phase_flips_and_damage_leave_noise_of_shots_alone():
    settings = {"structural_noise": 0, "dose_weighting": False}
    plain, other = (
        imaging(**settings, **more).noise((16,) * 3, torch.Generator().manual_seed(3))
        for more in ({}, {"ctf": "phase-flipped", "dose": 10, "mtf": 0.3})
    )
    torch.testing.assert_close(plain, other)


def test_ice_has_the_rings_of_the_ctf():
    def power(share):
        settings = PERFECT | {"ctf": "plain", "structural_noise": share}
        return imaging(**settings)._box_noise(64)[0, :, 0] ** 2  # along ky

    # On the axis of ky all tilts see the same: shot noise is white there.
    ice, shot = power(1), power(0)
    k2 = torch.fft.fftfreq(64, dtype=torch.float64) ** 2 / VOXEL**2
    expected = Optics(300, 2.7, 0.07, 3e4).transfer(k2, 3e4) ** 2
    ratio = (ice / shot)[2:32]
    correlation = np.corrcoef(ratio, expected[2:32])[0, 1]
    assert correlation > 0.97
    assert float(shot[2:32].std() / shot[2:32].mean()) < 0.05


def test_snr_is_a_ratio_of_variances_in_the_box(tmp_path, simulate):
    """The same scenes with noise and nearly without it."""
    by_snr = {}
    for snr in (1e9, 0.5):
        config = SubtomogramSimulation(
            out=tmp_path / f"{snr}",
            per_class=3,
            snr=snr,
            off_center=0,
            noise="projections",
        )
        result, _ = simulate(config)
        _, volumes, labels = open_stacks(config.out)
        by_snr[snr] = np.stack(volumes)
    signal, noise = by_snr[1e9], by_snr[0.5] - by_snr[1e9]
    level = noise.var(axis=(1, 2, 3)).mean()
    for name, snr in result["snr"].items():
        of_class = signal[np.array(labels) == name].var(axis=(1, 2, 3)).mean()
        # Three orientations, against the mean over many.
        assert of_class / level == pytest.approx(snr, rel=0.3), name
    assert sorted(result["snr"].values())[3] == pytest.approx(0.5)


def test_noise_of_a_box_is_that_of_a_crop():
    maker, n = imaging(), 24
    noise = maker.noise((72, 96, 120), torch.Generator().manual_seed(5), 3)
    crops = noise.unfold(1, n, n).unfold(2, n, n).unfold(3, n, n)
    spectra = torch.fft.rfftn(crops.reshape(-1, n, n, n), dim=(1, 2, 3))
    found = spectra.abs().square().mean(dim=0) / n**3
    expected = maker._box_noise(n) ** 2
    # A mean over 180 crops: each component is good to 7 %.
    strong = expected > 0.1
    ratio = found[strong] / expected[strong]
    assert ratio.mean() == pytest.approx(1, abs=0.02)
    assert ratio.std() < 0.12
    weak = float(expected[~strong].mean())
    assert found[~strong].mean() == pytest.approx(weak, rel=0.1)


def test_a_tomogram_of_projections_agrees_with_its_truth(tmp_path, simulate):
    """A particle cut out of it looks as the same particle does alone in a box."""
    settings = {"shape": (64, 128, 144), "box": 32, "per_class": 1, "margin": 180}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        config = TomogramSimulation(
            out=tmp_path / name / "tomo.mrc",
            truth=tmp_path / name / "truth.star",
            noise="projections",
            snr=1e8,
            dose=0,
            gap=60,
            seed=3,
            **settings,
        )
        simulate(config)
    one, two = ((tmp_path / name / "tomo.mrc").read_bytes() for name in "ab")
    assert one == two
    volume = mrcfile.read(config.out)
    density = {d.name: d for d in phantoms(VOXEL)}
    for _, row in starfile.read(config.truth).iterrows():
        angles = row[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy(float)
        rotation = Rotation.from_euler("ZYZ", angles, degrees=True).inv().as_matrix()
        position = row[[f"rlnCoordinate{axis}" for axis in "ZYX"]].to_numpy(float)
        nearest = np.round(position).astype(int)
        inside = tuple(slice(i - 12, i + 12) for i in nearest)
        sampler = Sampler(density[row["ectkdLabel"]])
        alone = sampler.sample(rotation[None], (position - nearest)[None], 48)
        place = Place(*(VOXEL * (position - np.array(volume.shape) // 2)))
        box = ProjectionImaging(config, VOXEL, place).signal(alone)[0].numpy()
        middle = box[12:36, 12:36, 12:36]
        # The streaks of the others come in.
        correlation = np.corrcoef(volume[inside].ravel(), middle.ravel())[0, 1]
        assert correlation > 0.9, row["ectkdLabel"]


@pytest.mark.parametrize("shape", [(16, 16, 16), (16, 20, 24)])
@pytest.mark.parametrize("ctf", ["phase-flipped", "none"])
def test_signal_stays_on_its_device(shape, ctf):
    """On the device that computes nothing: an array left behind would be an error."""
    volumes = torch.zeros((2, *shape), device="meta")
    seen = imaging(ctf=ctf, dual_axis=True).signal(volumes)
    assert seen.device.type == "meta"
    assert seen.shape == volumes.shape
