"""Densities of atoms beside what gemmi says of the atoms themselves."""

from __future__ import annotations

import gemmi
import mrcfile
import numpy as np
import pytest
import starfile
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from napari_ectkd.simulation.config import TomogramSimulation
from napari_ectkd.simulation.density import load_densities


def _atoms(path, *, is_assembly):
    """Return positions `(n, 3)` xyz and weights of all atoms but water's."""
    structure = gemmi.read_structure(str(path))
    structure.remove_alternative_conformations()
    model = structure[0]
    if is_assembly and structure.assemblies:
        naming = gemmi.HowToNameCopiedChain.Short
        model = gemmi.make_assembly(structure.assemblies[0], model, naming)
    model.remove_waters()
    sites = [site.atom for site in model.all()]
    positions = np.array([atom.pos.tolist() for atom in sites])
    return positions, np.array([atom.element.weight for atom in sites])


@pytest.mark.parametrize("is_assembly", [True, False])
@pytest.mark.parametrize(("voxel_size", "resolution"), [(10, None), (5, 15), (10, 40)])
def test_a_small_complex_is_weaker_by_its_mass_alone(
    shared_data, voxel_size, resolution, is_assembly
):
    ratios = []
    for name in ("1bxn", "1s3x", "3gl1"):  # 39 to 480 kDa
        path = shared_data / "pdb" / f"{name}.pdb.gz"
        (density,) = load_densities(
            [path], voxel_size, resolution, is_assembly=is_assembly
        )
        _, weights = _atoms(path, is_assembly=is_assembly)
        integral = float(density.voxels.sum()) * voxel_size**3
        ratios.append(integral / weights.sum())
    # 1.23 Å³ per dalton, 7 % of which are hydrogen and missing here.
    np.testing.assert_allclose(ratios, 1.23 / 0.93, rtol=0.03)


def test_hydrogen_and_alternatives_do_not_count(tmp_path):
    row = "{:6}{:5d}  {:<3}{}ALA A{:4d}    {:8.3f}{:8.3f}{:8.3f}{:6.2f} 20.00{:>12}\n"
    plain = [
        ("ATOM", i, "CA", " ", i, 9.0 * i, 2.0 * i**2, 5.0, 1, "C") for i in range(1, 5)
    ]
    rich = [
        *plain[:-1],
        ("ATOM", 4, "CA", "A", 4, 36.0, 32.0, 5.0, 0.6, "C"),
        ("ATOM", 5, "CA", "B", 4, 37.0, 32.0, 5.0, 0.4, "C"),
        ("ATOM", 6, "HA", " ", 4, 36.0, 33.0, 5.0, 1, "H"),
    ]
    for name, atoms in (("plain", plain), ("rich", rich)):
        text = "".join(row.format(*atom) for atom in atoms)
        (tmp_path / f"{name}.pdb").write_text(text + "END\n")
    one, two = load_densities([tmp_path / "plain.pdb", tmp_path / "rich.pdb"], 5.0, 15)
    np.testing.assert_allclose(one.voxels, two.voxels, atol=1e-6)


def test_the_hand_from_atoms_to_tomogram(shared_data, tmp_path, simulate):
    """A projection along z of the turned atoms, of their mirror image, and ours."""
    path = shared_data / "pdb" / "1s3x.pdb.gz"
    shape, size = (40, 48, 52), 5.0
    config = TomogramSimulation(
        out=tmp_path / "t.mrc",
        truth=tmp_path / "t.star",
        density=[path],
        shape=shape,
        voxel_size=size,
        per_class=1,
        margin=0,
        snr=1e8,
        tilt_range=(-90, 90),
        seed=8,
    )
    simulate(config)
    found = mrcfile.read(config.out).sum(axis=0)
    truth = starfile.read(config.truth)
    row = truth.iloc[0] if hasattr(truth, "iloc") else truth
    angles = [float(row[f"rlnAngle{name}"]) for name in ("Rot", "Tilt", "Psi")]
    where = np.array([float(row[f"rlnCoordinate{axis}"]) for axis in "XYZ"])
    positions, weights = _atoms(path, is_assembly=True)
    positions -= (positions * weights[:, None]).sum(axis=0) / weights.sum()
    to_reference = Rotation.from_euler("ZYZ", angles, degrees=True)

    def projection(points):
        # A particle's coordinates are turned into the reference by RELION's angles.
        x, y, _ = (to_reference.inv().apply(points) / size + where).T
        edges = [np.arange(n + 1) - 0.5 for n in shape[1:]]
        image, _, _ = np.histogram2d(y, x, bins=edges, weights=weights)
        return gaussian_filter(image, 0.225 * 10 / size)

    right = np.corrcoef(projection(positions).ravel(), found.ravel())[0, 1]
    mirrored = np.corrcoef(projection(positions * (1, 1, -1)).ravel(), found.ravel())
    assert right > 0.98
    assert mirrored[0, 1] < 0.93
