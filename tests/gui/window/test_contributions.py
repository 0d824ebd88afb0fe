"""What napari finds in the manifest, used the way napari uses it."""

import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from importlib.resources import files

import numpy as np
import pytest
from npe2 import PluginManifest

import napari_ectkd
from napari_ectkd.io.picks import Picks
from napari_ectkd.io.star import read_picks, write_picks


@pytest.fixture
def manifest():
    return PluginManifest.from_file(files(napari_ectkd) / "napari.yaml")


def test_each_command_can_be_imported(manifest):
    for command in manifest.contributions.commands:
        module, name = str(command.python_name).split(":")
        assert callable(getattr(import_module(module), name)), command.id


def test_contributions_import_nothing_heavy():
    code = "import sys, napari_ectkd.gui.contributions as c; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    heavy = {"torch", "napari", "scipy", "pandas", "numpy", "qtpy"}
    assert not heavy & set(run.stdout.split())


def test_the_manifest_takes_little_of_naparis_start():
    code = """if True:
        import time
        from importlib.resources import files
        import napari_ectkd
        from npe2 import PluginManifest
        path = files(napari_ectkd) / "napari.yaml"
        PluginManifest.from_file(path)  # what the first one of all plugins costs
        start = time.process_time()
        PluginManifest.from_file(path)
        import napari_ectkd.gui.contributions
        print(time.process_time() - start)
    """
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert float(run.stdout) < 0.05


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


def test_a_tomogram_is_opened_and_saved(viewer, tomogram_file, tmp_path):
    path = tomogram_file()
    (layer,) = viewer.open(path, plugin="napari-ectkd")
    np.testing.assert_allclose(layer.scale, 10)
    assert [str(unit) for unit in layer.units] == ["angstrom"] * 3
    saved = tmp_path / "saved.mrc"
    layer.save(str(saved), plugin="napari-ectkd")
    import mrcfile

    np.testing.assert_array_equal(
        np.abs(mrcfile.read(saved)), np.abs(mrcfile.read(path))
    )
    assert mrcfile.open(saved, header_only=True).voxel_size.x == 10


def test_picks_are_opened_and_saved_with_all_columns(viewer, tmp_path, some_picks):
    path = tmp_path / "picks.star"
    write_picks(path, some_picks(), 10)
    (layer,) = viewer.open(path, plugin="napari-ectkd")
    assert len(layer.data) == 4
    np.testing.assert_allclose(layer.data, some_picks().positions, atol=1e-3)
    saved = tmp_path / "saved.star"
    layer.save(str(saved), plugin="napari-ectkd")
    again = read_picks(saved)
    np.testing.assert_allclose(again.positions, some_picks().positions, atol=1e-3)
    assert again.label.tolist() == some_picks().label.tolist()
    assert again.foreign.equals(some_picks().foreign)


def test_star_files_without_coordinates_are_left_to_others(tmp_path):
    from napari_ectkd.gui.contributions import get_picks_reader

    path = tmp_path / "optics.star"
    path.write_text("data_optics\n\nloop_\n_rlnVoltage #1\n300\n")
    assert get_picks_reader(str(path)) is None


def test_the_sample_is_a_tomogram_with_its_truth(viewer, tmp_path, monkeypatch):
    import platformdirs

    monkeypatch.setattr(platformdirs, "user_cache_path", lambda _: tmp_path)
    image, points = viewer.open_sample("napari-ectkd", "phantom")
    assert image.ndim == 3
    assert len(points.data) == 28
    inside = (points.data <= np.array(image.data.shape) * image.scale).all()
    assert inside
    assert len(set(points.features["label"])) == 7


def test_crowded_sample_data_comes_with_labels(viewer, tmp_path, monkeypatch):
    import platformdirs

    monkeypatch.setattr(platformdirs, "user_cache_path", lambda _: tmp_path)
    image, labels, points = viewer.open_sample("napari-ectkd", "crowded")
    assert image.data.shape == labels.data.shape
    np.testing.assert_array_equal(image.scale, labels.scale)
    assert not labels.visible
    n = len(points.data)
    assert len(set(points.features["label"])) == 7
    ids = np.unique(labels.data)
    assert ids.tolist() == list(range(n + 1 + 2 + 6))
    assert n > 80
    # A slice cuts all points that reach into it, not just centers in it.
    assert viewer.dims.thickness == (200.0,) * 3
    again = viewer.open_sample("napari-ectkd", "crowded")  # from the cache
    np.testing.assert_array_equal(again[1].data, labels.data)


def test_a_tomogram_opened_by_napari_is_taken_in_by_the_panels(viewer, tomogram_file):
    from napari_ectkd.gui.session import Session

    viewer.open(tomogram_file(), plugin="napari-ectkd")
    session = Session.of(viewer)
    assert list(session.tomograms) == ["tomo"]
    assert session.layers.points("tomo") is not None
    session.save()


def test_view_keeps_what_was_labeled_before(
    make_napari_viewer, tomogram_file, tmp_path, some_picks
):
    from napari_ectkd.gui import view
    from napari_ectkd.gui.session import Session
    from napari_ectkd.io.tomogram import open_tomogram

    path = tomogram_file()
    folder = path.parent / "ectkd"
    folder.mkdir()
    mine = Picks.create([[50, 60, 70], [150, 160, 170]], "tomo", label="mine")
    write_picks(folder / "tomo.star", mine, 10)
    given = tmp_path / "given.star"
    picks = replace(some_picks(n=2), positions=mine.positions + np.array([[0], [30]]))
    write_picks(given, picks, 10)
    viewer = make_napari_viewer()
    view.fill(viewer, open_tomogram(path), given)
    session = Session.of(viewer)
    assert session.save()
    found = read_picks(folder / "tomo.star")
    assert found.label.tolist() == ["mine", "mine", ""]
    assert found.prediction.tolist() == [picks.prediction[0], "", picks.prediction[1]]


def test_view_says_that_picks_are_of_another_tomogram(
    make_napari_viewer, tomogram_file, tmp_path, some_picks
):
    from napari_ectkd.gui import view
    from napari_ectkd.io.tomogram import open_tomogram

    given = tmp_path / "given.star"
    write_picks(given, some_picks("another"), 10)
    viewer = make_napari_viewer()
    studio = view.fill(viewer, open_tomogram(tomogram_file()), given)
    assert "no picks of tomo, but of: another" in studio.pick.said.text()
    studio.pick.session.save()


def test_view_saves_a_picture_with_the_colors_of_the_classes(
    tomogram_file, tmp_path, some_picks
):
    import imageio.v3 as imageio

    picks, picture = tmp_path / "picks.star", tmp_path / "window.png"
    middle = np.repeat([[100.0, 200.0, 240.0]], 4, axis=0) + some_picks().positions / 9
    write_picks(picks, replace(some_picks(), positions=middle), 10)
    command = [sys.executable, "-m", "napari_ectkd", "view", str(tomogram_file())]
    command += ["--picks", str(picks), "--screenshot", str(picture)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    pixels = imageio.imread(picture)[..., :3].astype(int)
    assert pixels.shape[1] > 1000
    red = np.abs(pixels - (0xFF, 0x5C, 0x5C)).max(axis=-1) < 12
    assert red.sum() > 100
