"""Particles as surfaces: where their densities are, turned as their angles say."""

import mrcfile
import numpy as np
import pytest
from scipy import ndimage

from napari_ectkd.gui import mesh_layer
from napari_ectkd.gui.mesh_form import MeshForm
from napari_ectkd.gui.meshes import mesh_levels, meshes_within, place
from napari_ectkd.io.picks import Picks
from napari_ectkd.simulation.density import SHARE_OF_MAXIMUM, Density
from napari_ectkd.simulation.orientations import random_rotations, relion_angles
from napari_ectkd.simulation.poses import Sampler

VOXEL_SIZE = 10.0


def ball(n=25, radius=6.0, center=(0, 0, 0)):
    """Return a soft ball, half of its maximum at the radius, in voxels."""
    offsets = np.indices((n, n, n)) - n // 2 - np.reshape(center, (3, 1, 1, 1))
    distance = np.linalg.norm(offsets, axis=0)
    return np.clip(radius + 0.5 - distance, 0, 1).astype(np.float32)


def lopsided():
    """Return three balls of different sizes, which no rotation leaves alone."""
    voxels = ball(29, 4) + ball(29, 3, (0, 2, 8)) + ball(29, 2, (5, -5, 0))
    return Density("lopsided", ndimage.gaussian_filter(voxels, 1), VOXEL_SIZE)


def test_the_surface_of_a_ball_is_a_sphere_at_the_pick():
    (finest, *_) = mesh_levels(Density("ball", ball(), VOXEL_SIZE))
    at = np.array([[300.0, 400, 500]])
    placed = place(finest, at, random_rotations(1, np.random.default_rng(0)))
    radii = np.linalg.norm(placed.vertices - at, axis=1)
    # A fifth of the maximum is 0.3 voxels beyond half of it.
    np.testing.assert_allclose(radii, 63, atol=3.1)
    # A closed surface without handles: V - E + F = 2.
    edges = {
        tuple(sorted(pair))
        for a, b, c in finest.triangles.tolist()
        for pair in ((a, b), (b, c), (c, a))
    }
    assert len(finest.vertices) - len(edges) + len(finest.triangles) == 2


def test_a_density_that_fills_its_cube_is_closed():
    voxels = np.ones((9, 9, 9), np.float32)
    (finest, *_) = mesh_levels(Density("cube", voxels, VOXEL_SIZE))
    assert np.abs(finest.vertices).max() == pytest.approx(4.8 * VOXEL_SIZE)


def test_meshes_are_turned_as_simulated_particles_are():
    density = lopsided()
    rotations = random_rotations(5, np.random.default_rng(0))
    boxes = Sampler(density).sample(rotations, np.zeros((5, 3)), 41).numpy()
    mesh = mesh_levels(density)[0]
    level = SHARE_OF_MAXIMUM * density.voxels.max()

    def off(rotation, box):
        """Return how far from the surface's level the box is on a surface."""
        surface = place(mesh, np.zeros((1, 3)), rotation[None]).vertices
        at = (surface / VOXEL_SIZE + 20).T
        return np.abs(ndimage.map_coordinates(box, at, order=1) / level - 1).mean()

    pairs = list(zip(rotations, boxes, strict=True))
    assert max(off(rotation, box) for rotation, box in pairs) < 0.06
    assert np.mean([off(rotation.T, box) for rotation, box in pairs]) > 0.3


def test_many_particles_get_coarser_meshes():
    levels = {"ball": mesh_levels(Density("ball", ball(), VOXEL_SIZE))}
    sizes = [len(mesh.triangles) for mesh in levels["ball"]]
    assert sizes == sorted(sizes, reverse=True)
    assert len(sizes) >= 3
    assert (
        meshes_within(levels, {"ball": 10}, 10 * sizes[0])["ball"]
        is (levels["ball"][0])
    )
    assert (
        meshes_within(levels, {"ball": 10}, 10 * sizes[0] - 1)["ball"]
        is (levels["ball"][1])
    )
    assert meshes_within(levels, {"ball": 10_000}, 1)["ball"] is levels["ball"][-1]


@pytest.fixture
def densities(tmp_path):
    """Return files of two densities, called as the classes ring and shell."""
    paths = {}
    for name, voxels in (("ring", ball(21, 4)), ("shell", lopsided().voxels)):
        paths[name] = tmp_path / f"{name}.mrc"
        with mrcfile.new(paths[name]) as mrc:
            mrc.set_data(voxels.astype(np.float32))
            mrc.voxel_size = VOXEL_SIZE
    return paths


@pytest.fixture
def form(session, qtbot):
    """Return the form, with four picks: two labels, a sure and an unsure prediction."""
    rotations = random_rotations(4, np.random.default_rng(0))
    picks = Picks.create(
        [[100.0, 100, 100], [100, 200, 100], [100, 100, 300], [100, 200, 300]],
        "tomo",
        label=["ring", "shell", "", ""],
        prediction=["", "", "shell", "ring"],
        confidence=[np.nan, np.nan, 0.9, 0.4],
        angles=relion_angles(rotations),
    )
    session.set_picks("tomo", picks)
    form = MeshForm(session)
    qtbot.addWidget(form)
    return form


@pytest.fixture
def drawn(form, densities, qtbot):
    """Return the layer of meshes, in 3D."""
    viewer = form._session.viewer
    viewer.dims.ndisplay = 3
    form.box.setChecked(True)
    with qtbot.waitSignal(form.meshes.loader.loaded, timeout=30_000):
        form.take(list(densities.values()))
    form.meshes.update()
    return viewer.layers["particles as densities"]


def particles_of(layer):
    """Return where each particle of a layer is, Å, with its color."""
    vertices, triangles, values = layer.data
    n = len(vertices)
    graph = np.arange(n)
    # Vertices of a particle are joined: spread the lowest number until nothing changes.
    while True:
        lowest = graph.copy()
        for a, b in ((0, 1), (1, 2), (2, 0)):
            np.minimum.at(lowest, triangles[:, a], graph[triangles[:, b]])
            np.minimum.at(lowest, triangles[:, b], graph[triangles[:, a]])
        lowest = lowest[lowest]
        if np.array_equal(lowest, graph):
            break
        graph = lowest
    found = []
    for piece in np.unique(graph):
        inside = vertices[graph == piece] * layer.scale
        color = layer.colormap.map(values[graph == piece])
        assert (color == color[0]).all()
        found.append(((inside.min(0) + inside.max(0)) / 2, tuple(color[0][:3])))
    return found


def rgb(session, name):
    color = session.palette.color(name)
    return tuple(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))


def test_each_particle_is_at_its_pick_in_the_color_of_its_class(form, drawn):
    session = form._session
    found = particles_of(drawn)
    assert len(found) == 4
    picks = session.picks("tomo")
    for position, name in zip(
        picks.positions, ["ring", "shell", "shell", "ring"], strict=True
    ):
        center, color = min(found, key=lambda f: np.linalg.norm(f[0] - position))
        # A lopsided particle's middle is not its center of mass.
        assert np.linalg.norm(center - position) < (2 if name == "ring" else 60)
        np.testing.assert_allclose(color, rgb(session, name), atol=1e-6)
    assert form.text.text() == "4 particles are drawn as densities."


def test_what_is_hidden_or_unknown_is_not_drawn(form, drawn, qtbot):
    session = form._session
    session.set_hidden({"shell"})
    form.meshes.update()
    assert len(particles_of(drawn)) == 2
    session.set_overlay(min_confidence=0.5)  # the unsure ring is unknown now
    form.meshes.update()
    assert len(particles_of(drawn)) == 1
    session.set_color("ring", "#123456")
    form.meshes.update()
    assert particles_of(drawn)[0][1] == pytest.approx(rgb(session, "ring"))
    session.set_hidden({"ring", "shell"})
    form.meshes.update()
    assert not drawn.visible
    session.set_hidden(set())
    qtbot.waitUntil(lambda: drawn.visible)  # by itself, soon after


def test_in_2d_there_are_points_only_and_slices_stay_where_they_are(form, drawn):
    viewer = form._session.viewer
    viewer.dims.ndisplay = 2
    assert not drawn.visible
    assert "in 3D" in form.text.text()
    # 20 × 40 × 48 voxels: the rim of no mesh counts.
    assert [tuple(r) for r in viewer.dims.range] == [
        (0, 190, 10),
        (0, 390, 10),
        (0, 470, 10),
    ]
    viewer.dims.ndisplay = 3
    assert drawn.visible
    form.box.setChecked(False)
    form.meshes.update()
    assert not drawn.visible
    assert form.text.text() == ""


def test_too_many_particles_leave_out_the_least_sure(form, drawn, monkeypatch):
    coarse = form.meshes.loader.levels(form._session.overlay.densities)
    most = sum(2 * len(levels[-1].triangles) for levels in coarse.values())
    monkeypatch.setattr(mesh_layer, "MAX_TRIANGLES", most - 1)
    form.meshes.update()
    assert len(particles_of(drawn)) == 3
    assert "1 less sure ones are left out" in form.text.text()
    found = [center for center, _ in particles_of(drawn)]
    unsure = form._session.picks("tomo").positions[3]
    assert min(np.linalg.norm(center - unsure) for center in found) > 60


def test_particles_without_angles_are_said_to_be_unturned(form, drawn):
    session = form._session
    picks = session.picks("tomo")
    session.set_picks(
        "tomo", Picks.create(picks.positions, "tomo", label=["ring"] * 3 + [""])
    )
    form.meshes.update()
    assert "3 particles are drawn as densities, all unturned" in form.text.text()


def test_a_layer_that_is_taken_away_is_switched_off(form, drawn):
    form._session.viewer.layers.remove(drawn)
    assert not form.box.isChecked()
    form.box.setChecked(True)
    form.meshes.update()
    assert "particles as densities" in form._session.viewer.layers


def test_files_that_do_not_fit_are_said(form, drawn, densities, qtbot, tmp_path):
    session = form._session
    strange = densities["ring"].rename(tmp_path / "apoferritin.mrc")
    form.take([strange])
    assert "No class has the name of apoferritin.mrc" in form.text.text()
    form.of.setValue("shell")
    with qtbot.waitSignal(form.meshes.loader.loaded, timeout=30_000):
        form.take([strange])
        form.meshes.update()
    assert session.overlay.densities["shell"] == strange
    (tmp_path / "shell.mrc").write_bytes(b"nothing of a map")
    form.of.setValue("ring")
    with qtbot.waitSignal(form.meshes.loader.loaded, timeout=30_000):
        form.take([tmp_path / "shell.mrc"])
        form.meshes.update()
    form.meshes.update()
    assert "shell.mrc" in form.text.text()
    form.take([tmp_path / "notes.txt"])
    assert "notes.txt: no such file" in form.text.text()


def test_densities_of_classes_are_there_again(session, another_session, densities):
    session.add_class("ring")
    session.add_class("shell")
    session.set_overlay(densities=densities)
    session.rename_class("ring", "torus")
    session.remove_class("shell")
    assert session.save()
    again = another_session()
    again.open_tomogram(session.tomograms["tomo"].path)
    assert again.overlay.densities == {"torus": densities["ring"]}
    again.save()
