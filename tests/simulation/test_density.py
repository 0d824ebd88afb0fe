from __future__ import annotations

import gzip

import numpy as np
import pytest
from scipy import ndimage

from napari_ectkd.errors import (
    ConfigError,
    DataError,
    EctkdError,
    FileMissingError,
    FormatError,
    VoxelSizeError,
)
from napari_ectkd.simulation.density import load_densities

ATOM = (
    "ATOM  {:5d}  CA  ALA A{:4d}    {:8.3f}{:8.3f}{:8.3f}  1.00 20.00           C  \n"
)


def _pdb(path, points):
    rows = [ATOM.format(i, i, *xyz) for i, xyz in enumerate(points, 1)]
    path.write_text("".join(rows) + "END\n")
    return path


def _ball(n, center, radius):
    z, y, x = np.mgrid[:n, :n, :n]
    squares = sum((c - w) ** 2 for c, w in zip((z, y, x), center, strict=True))
    return np.clip(radius - np.sqrt(squares), 0, 1).astype(np.float32)


def test_a_map_is_centered_and_of_one_contrast(make_mrc):
    voxels = 7 + 40 * _ball(32, (12.4, 18, 15.7), 6)
    path = make_mrc(voxels, 10.0, "ball.mrc")
    (density,) = load_densities([path], 10.0)
    n = density.voxels.shape[0]
    center = ndimage.center_of_mass(density.voxels)
    np.testing.assert_allclose(center, n // 2, atol=0.05)
    protein = density.voxels[density.voxels > 0.2 * density.voxels.max()]
    assert protein.mean() == pytest.approx(0.6, abs=1e-4)
    assert density.name == "ball"
    assert density.voxels.dtype == np.float32
    assert density.radius == pytest.approx(60, abs=8)


def test_contrast_does_not_depend_on_the_gray_scale(make_mrc):
    voxels = _ball(24, (12, 12, 12), 6)
    paths = [
        make_mrc(voxels, 10.0, "one.mrc"),
        make_mrc(250 * voxels - 3, 10.0, "two.mrc"),
    ]
    one, two = load_densities(paths, 10.0)
    np.testing.assert_allclose(one.voxels, two.voxels, atol=1e-4)


def test_resampling_keeps_volume(make_mrc):
    voxels = _ball(64, (31, 32, 33), 20)
    (density,) = load_densities([make_mrc(voxels, 5.0, "plain.mrc")], 10.0)
    # Voxels twice as large are means of eight, but for the filter.
    eights = voxels.reshape(32, 2, 32, 2, 32, 2).mean(axis=(1, 3, 5))
    expected = 0.6 * eights.sum() / eights[eights > 0.2].mean()
    assert density.voxels.sum() == pytest.approx(expected, rel=0.03)


def test_resampling_drops_what_is_too_fine(make_mrc):
    z, y, x = np.mgrid[:64, :64, :64] - 32
    blob = np.exp(-(z**2 + y**2 + x**2) / 128).astype(np.float32)
    ripple = 1 + 0.5 * np.cos(0.8 * np.pi * np.arange(64))  # beyond the new Nyquist
    paths = [
        make_mrc(blob, 5.0, "blob.mrc"),
        make_mrc((blob * ripple).astype(np.float32), 5.0, "rippled.mrc"),
    ]
    plain, rippled = load_densities(paths, 10.0)
    np.testing.assert_allclose(rippled.voxels, plain.voxels, atol=5e-3)


def test_order_of_axes_in_the_file(make_mrc):
    voxels = _ball(24, (12, 12, 12), 4) + _ball(24, (12, 12, 18), 3)
    voxels += _ball(24, (12, 16, 12), 2)
    plain = make_mrc(voxels, 10.0, "plain.mrc")
    swapped = make_mrc(
        voxels.transpose(2, 1, 0).copy(), 10.0, "swapped.mrc", mapc=3, mapr=2, maps=1
    )
    one, two = load_densities([plain, swapped], 10.0)
    np.testing.assert_allclose(one.voxels, two.voxels, atol=1e-5)


def test_atoms_come_out_zyx_with_their_hand(tmp_path):
    # A heavy cluster, and one cluster each along +x, +y, +z of different weight.
    points = [(0, 0, 0)] * 8 + [(60, 0, 0)] * 4 + [(0, 60, 0)] * 2 + [(0, 0, 60)]
    (density,) = load_densities([_pdb(tmp_path / "axes.pdb", points)], 5.0, 15)
    found = np.argwhere(
        (ndimage.maximum_filter(density.voxels, 5) == density.voxels)
        & (density.voxels > 0.02 * density.voxels.max())
    )
    weight = density.voxels[tuple(found.T)]
    peaks = found[np.argsort(-weight)][:4]
    steps = (peaks[1:] - peaks[0]) * 5.0
    np.testing.assert_allclose(steps[0], (0, 0, 60), atol=6)  # x is the last axis
    np.testing.assert_allclose(steps[1], (0, 60, 0), atol=6)
    np.testing.assert_allclose(steps[2], (60, 0, 0), atol=6)


def test_one_atom_is_a_gaussian_of_the_stated_width(tmp_path):
    (density,) = load_densities([_pdb(tmp_path / "atom.pdb", [(3, 4, 5)])], 4.0, 40)
    z, _, _ = np.mgrid[tuple(slice(n) for n in density.voxels.shape)]
    offset = (z - density.voxels.shape[0] // 2) * 4.0
    spread = np.sqrt((density.voxels * offset**2).sum() / density.voxels.sum())
    assert spread == pytest.approx(0.225 * 40, rel=0.06)


def test_assembly_of_rubisco_has_its_symmetry(shared_data):
    path = shared_data / "pdb" / "1bxn.pdb.gz"
    (whole,) = load_densities([path], 10.0)
    (half,) = load_densities([path], 10.0, is_assembly=False)
    # L8S8, of which the asymmetric unit is one half.
    assert whole.voxels.sum() == pytest.approx(2 * half.voxels.sum(), rel=0.01)
    # D4: along its 4-fold axis two principal moments are equal.
    n = whole.voxels.shape[0]
    offsets = np.stack(np.mgrid[:n, :n, :n] - n // 2).reshape(3, -1)
    moments = np.linalg.eigvalsh((whole.voxels.ravel() * offsets) @ offsets.T)
    gaps = np.diff(moments) / moments.mean()
    assert min(gaps) < 0.02


@pytest.mark.parametrize("name", ["1bxn", "1s3x"])
def test_atoms_agree_with_an_independent_map(shared_data, name):
    """PolNet's maps are of the deposited atoms, in their orientation."""
    pdb = shared_data / "pdb" / f"{name}.pdb.gz"
    (atoms,) = load_densities([pdb], 10.0, is_assembly=False)
    (reference,) = load_densities([shared_data / "densities_10A" / f"{name}.mrc"], 10.0)
    n = min(atoms.voxels.shape[0], reference.voxels.shape[0])
    a, b = (_middle(d.voxels, n).ravel() for d in (atoms, reference))
    assert np.corrcoef(a, b)[0, 1] > 0.93
    mirrored = _middle(atoms.voxels, n)[::-1].ravel()
    assert np.corrcoef(mirrored, b)[0, 1] < np.corrcoef(a, b)[0, 1] - 0.05


def test_densities_of_the_nine_complexes(shared_data):
    names = ["2cg9", "4v4r"]
    small, large = load_densities(
        [shared_data / "densities_10A" / f"{name}.mrc" for name in names], 10.0
    )
    assert large.voxels.sum() / small.voxels.sum() == pytest.approx(2277 / 189, rel=0.3)
    assert large.share_outside(32) < 0.01
    assert large.share_outside(20) > 0.1


@pytest.mark.parametrize("name", ["none", "Unknown"])
def test_taken_names(make_mrc, name):
    path = make_mrc(_ball(16, (8, 8, 8), 4), 10.0, f"{name}.mrc")
    with pytest.raises(ConfigError, match="is taken"):
        load_densities([path], 10.0)


def test_folders_are_read_in_order_and_names_are_once(make_mrc, tmp_path):
    ball = _ball(16, (8, 8, 8), 4)
    for name in ("b", "a"):
        make_mrc(ball, 10.0, f"maps/{name}.mrc")
    (tmp_path / "maps" / "README.md").write_text("no density")
    found = load_densities([tmp_path / "maps"], 10.0)
    assert [density.name for density in found] == ["a", "b"]
    again = make_mrc(ball, 10.0, "B.map")
    with pytest.raises(ConfigError, match="would both be the class"):
        load_densities([tmp_path / "maps", again], 10.0)


def test_what_cannot_be_a_density(make_mrc, tmp_path):
    ball = _ball(16, (8, 8, 8), 4)
    (tmp_path / "empty").mkdir()
    text = tmp_path / "a.txt"
    text.write_text("x")
    broken = tmp_path / "broken.cif"
    broken.write_text("data_x\nloop_\n_a\n_b\n1 2 3\n")
    whole = _pdb(tmp_path / "whole.pdb", np.zeros((500, 3))).read_bytes()
    cut = tmp_path / "cut.pdb.gz"
    cut.write_bytes(gzip.compress(whole)[:-20])
    no_atoms = tmp_path / "no_atoms.pdb"
    no_atoms.write_text("REMARK nothing\nEND\n")
    nan = ball.copy()
    nan[3, 3, 3] = np.nan
    with pytest.warns(RuntimeWarning, match="NaN"):
        with_nan = make_mrc(nan, 10.0, "nan.mrc")
    cases = [
        (tmp_path / "empty", DataError, "no densities in this folder"),
        (tmp_path / "missing.mrc", FileMissingError, "no such file"),
        (text, FormatError, "not a density"),
        (broken, FormatError, "not a readable structure"),
        (cut, FormatError, "not a readable structure"),
        (no_atoms, DataError, "no atoms"),
        (with_nan, DataError, "NaN"),
        (make_mrc(-ball, 10.0, "dark.mrc"), DataError, "protein is to be bright"),
        (make_mrc(ball, 0.0, "zero.mrc"), VoxelSizeError, "true voxel size"),
        (make_mrc(0 * ball, 10.0, "flat.mrc"), DataError, "nothing brighter"),
    ]
    for path, kind, text in cases:
        with pytest.raises(kind, match=text) as caught:
            load_densities([path], 10.0)
        assert isinstance(caught.value, EctkdError)
        assert "\n" not in str(caught.value), path


def _middle(voxels, n):
    start = voxels.shape[0] // 2 - n // 2
    inside = slice(start, start + n)
    return voxels[inside, inside, inside]
