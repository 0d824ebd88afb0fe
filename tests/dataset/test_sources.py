"""Data sets in their three forms, written here by mrcfile and starfile alone."""

import os
import warnings

import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile

from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.dataset.sources import load_unlabeled
from napari_ectkd.dataset.subtomograms import NO_TARGET
from napari_ectkd.errors import (
    ConfigError,
    DataError,
    FileMissingError,
    FormatError,
    VoxelSizeError,
)
from napari_ectkd.events import Cancel
from napari_ectkd.io.stacks import StackInfo, StackWriter

BOX = 8
PLACES = np.array([[8, 9, 10], [12, 20, 15], [15, 6, 22], [9, 25, 25], [14, 14, 14]])
ID = range(5)
LABELS = ["b", "a", "a", "b", "none"]


@pytest.fixture
def voxels(noise):
    return noise(24, 32, 32)


@pytest.fixture
def write_star(tmp_path):
    def write(
        places=PLACES, labels=LABELS, tomogram="tomogram", name="picks.star", **more
    ):
        z, y, x = np.transpose(places)
        table = pd.DataFrame(
            {"rlnCoordinateX": x, "rlnCoordinateY": y, "rlnCoordinateZ": z}
        )
        table["rlnTomoName"] = tomogram
        table["rlnPixelSize"] = 10.0
        if labels is not None:
            table["ectkdLabel"] = labels
        for key, value in more.items():
            table[key] = value
        starfile.write({"particles": table}, tmp_path / name)
        return tmp_path / name

    return write


def slices(voxels, places=PLACES):
    low = np.asarray(places) - BOX // 2
    return [voxels[z : z + BOX, y : y + BOX, x : x + BOX] for z, y, x in low]


@pytest.fixture
def write_stacks(tmp_path, voxels):
    def write(name="stacks", volumes=None, labels=LABELS, box=BOX, **info):
        settings = {"voxel_size": 10.0, "tilt_range": (-60, 60)} | info
        writer = StackWriter(
            tmp_path / name, StackInfo(box=box, classes=sorted(set(labels)), **settings)
        )
        volumes = slices(voxels) if volumes is None else volumes
        writer.write(0, np.stack(volumes).astype(np.float32), labels)
        writer.finish(1)
        return tmp_path / name

    return write


@pytest.fixture
def write_folder(tmp_path, make_mrc, voxels):
    def write(name="folder", volumes=None, labels=LABELS, voxel_size=10.0):
        volumes = slices(voxels) if volumes is None else volumes
        for number, (volume, label) in enumerate(zip(volumes, labels, strict=True)):
            make_mrc(volume, voxel_size, name=f"{name}/{label}/{number}.mrc")
        return tmp_path / name

    return write


def by_label(data):
    """The normalized volumes of each class, in an order of their own."""
    read = data.read(np.arange(len(data)))
    return {
        name: read[data.label == name][np.argsort(read[data.label == name][:, 0, 0, 0])]
        for name in data.classes
    }


def test_folder_stack_and_picks_are_the_same_voxels(
    load, make_mrc, voxels, write_star, write_stacks, write_folder
):
    path = make_mrc(voxels)
    forms = {
        "picks": {
            "data": [write_star()],
            "tomograms": [path],
            "box": BOX,
            "invert": False,
        },
        "stacks": {"data": [write_stacks()]},
        "folder": {"data": [write_folder()]},
    }
    # By each subtomogram's own statistics all forms give the same numbers; by those of
    # the data, folder and stacks do, and picks up to the tomogram's statistics.
    own, common = (
        {k: by_label(load(**f, normalize=mode)[0]) for k, f in forms.items()}
        for mode in ("subtomogram", "data")
    )
    for name in ("a", "b", "none"):
        for form in forms:
            np.testing.assert_allclose(own[form][name], own["picks"][name], atol=1e-5)
        np.testing.assert_array_equal(common["stacks"][name], common["folder"][name])
    raw = np.stack(slices(voxels))
    expected = (raw - raw.mean((1, 2, 3), keepdims=True)) / raw.std(
        (1, 2, 3), keepdims=True
    )
    data, _ = load(**forms["picks"], normalize="subtomogram")
    np.testing.assert_allclose(data.read(np.arange(5)), expected, atol=1e-5)
    assert list(data.label) == LABELS
    assert data.classes == ["a", "b", "none"]
    assert data.counts() == {"a": 2, "b": 2, "none": 1}
    np.testing.assert_array_equal(data.targets(data.classes), [1, 0, 0, 1, 2])
    np.testing.assert_allclose(data.positions, PLACES * 10.0)
    assert set(data.tomogram) == {"tomogram"}


def test_picks_are_scaled_by_their_tomogram(load, make_mrc, voxels, write_star):
    data, _ = load(
        data=[write_star()], tomograms=[make_mrc(voxels)], box=BOX, invert=False
    )
    low, high = np.percentile(voxels, [1, 99])
    clipped = np.clip(voxels, low, high)
    expected = (np.stack(slices(voxels)) - clipped.mean()) / clipped.std()
    np.testing.assert_allclose(data.read(np.arange(5)), expected, atol=0.1)
    assert data.mode == "data"
    assert (data.box, data.voxel_size) == (BOX, 10.0)


def test_a_dark_copy_gives_the_same_subtomograms(
    load, make_mrc, voxels, write_star, write_folder
):
    bright, dark = make_mrc(voxels), make_mrc(-voxels, name="dark/tomogram.mrc")
    star = write_star()
    pairs = [
        [
            load(data=[star], tomograms=[path], box=BOX, invert=invert)[0]
            for path, invert in ((bright, False), (dark, True))
        ],
        [
            load(data=[write_folder("f")])[0],
            load(data=[write_folder("g", [-v for v in slices(voxels)])], invert=True)[
                0
            ],
        ],
    ]
    for one, other in pairs:
        np.testing.assert_allclose(
            one.read(np.arange(5)), other.read(np.arange(5)), atol=1e-5
        )
        assert (one.is_inverted, other.is_inverted) == (False, True)


def test_a_guess_of_the_contrast_is_said(load, make_mrc, voxels, write_star):
    _, events = load(data=[write_star()], tomograms=[make_mrc(voxels)], box=BOX)
    assert any("guess" in getattr(e, "text", "") for e in events)


def test_picks_near_the_edge_are_reported(load, make_mrc, voxels, write_star):
    places = [*PLACES.tolist(), [3, 16, 16], [12, 16, 29]]
    data, events = load(
        data=[write_star(places, [*LABELS, "a", "b"])],
        tomograms=[make_mrc(voxels)],
        box=BOX,
        invert=False,
    )
    assert len(data) == 5
    [said] = [e for e in events if e.kind == "noted"]
    assert said.is_warning
    assert "2 of 7" in said.text


def test_only_picks_near_the_edge_are_an_error(load, make_mrc, voxels, write_star):
    star = write_star([[0, 0, 0], [23, 31, 31]], ["a", "b"])
    with pytest.raises(DataError, match="nearer to the edge than half a box"):
        load(data=[star], tomograms=[make_mrc(voxels)], box=BOX)


def test_unlabeled_picks_are_left_out(load, make_mrc, voxels, write_star):
    star = write_star(labels=["b", "<empty>", "a", "b", "none"], ectkdPickId=range(5))
    settings = {"tomograms": [make_mrc(voxels)], "box": BOX, "invert": False}
    data, _ = load(data=[star], **settings)
    assert list(data.label) == ["b", "a", "b", "none"]
    with pytest.raises(DataError, match="no labeled picks"):
        load(data=[write_star(labels=None)], **settings)
    column = write_star(labels=None, myClass=["x", "y", "x", "y", "x"])
    data, _ = load(data=[column], label_column="myClass", **settings)
    assert data.counts() == {"x": 3, "y": 2}


def test_tomograms_of_other_voxel_sizes_are_resampled(
    load, make_mrc, noise, write_star
):
    first = make_mrc(noise(24, 32, 32), 10.0, name="one.mrc")
    second = make_mrc(noise(60, 60, 60), 5.0, name="two.mrc")
    star = write_star([[12, 12, 12], [14, 14, 14]], ["a", "b"], ["one", "two"])
    data, _ = load(data=[star], tomograms=[first, second], box=BOX, invert=False)
    assert data.read(np.arange(2)).shape == (2, BOX, BOX, BOX)
    assert data.voxel_size == 10.0
    read = data.read(np.arange(2))
    # Each is scaled by its tomogram's statistics at the voxel size of both.
    np.testing.assert_allclose(read.std(axis=(1, 2, 3)), 1, atol=0.25)


def test_several_data_sets_are_joined(load, write_stacks, write_folder, noise):
    one = write_stacks("one")
    other = write_folder("other", [10 * v for v in noise(2, 8, 8, 8)], ["a", "c"])
    data, _ = load(data=[one, other])
    assert data.counts() == {"a": 3, "b": 2, "c": 1, "none": 1}
    # Each part keeps its own scale: the second one's gray values are ten times larger.
    stds = data.read(np.arange(7)).std(axis=(1, 2, 3))
    np.testing.assert_allclose(stds, 1, atol=0.2)
    assert data.tilt_range is None  # one says, the other does not


@pytest.mark.parametrize(
    "info", [{"box": 10}, {"voxel_size": 12.0}], ids=["box", "voxel size"]
)
def test_data_of_other_boxes_cannot_be_joined(load, write_stacks, noise, info):
    edge = info.get("box", BOX)
    volumes = noise(2, edge, edge, edge)
    other = write_stacks("other", volumes, ["a", "b"], **info)
    with pytest.raises(DataError, match="cannot be one data set"):
        load(data=[write_stacks(), other])


def test_a_folder_may_have_more_files_than_a_process_may_open(load, write_folder):
    resource = pytest.importorskip("resource")
    folder = write_folder()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = [int(name) for name in os.listdir("/dev/fd")]
    limit = max(opened) + 5
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    # Four numbers stay free, wherever they are.
    filling = [os.dup(0) for _ in range(limit - len(opened) - 4)]
    try:
        data, _ = load(data=[folder])
        assert data.read(np.arange(len(data))).shape == (len(LABELS), BOX, BOX, BOX)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for number in filling:
            os.close(number)


def test_mixed_boxes_in_a_folder_are_an_error(load, write_folder, noise):
    folder = write_folder(volumes=[noise(8, 8, 8), noise(9, 9, 9)], labels=["a", "b"])
    with pytest.raises(DataError, match="cubes of one size"):
        load(data=[folder])
    flat = write_folder("flat", [noise(8, 8, 9)], ["a"])
    with pytest.raises(DataError, match="cubes of one size"):
        load(data=[flat])


def test_mixed_voxel_sizes_in_a_folder_are_an_error(
    load, write_folder, make_mrc, noise
):
    folder = write_folder()
    make_mrc(noise(8, 8, 8), 12.0, name="folder/a/odd.mrc")
    with pytest.raises(DataError, match="10 to 12 Å"):
        load(data=[folder])
    assert load(data=[folder], voxel_size=10.0)[0].voxel_size == 10.0
    unsized = write_folder("unsized", voxel_size=0.0)
    with pytest.raises(VoxelSizeError, match="--voxel-size"):
        load(data=[unsized])


def test_noise_per_particle_forces_normalization_of_each(load, write_stacks):
    folder = write_stacks(noise="per-particle")
    data, events = load(data=[folder])
    assert data.mode == "subtomogram"
    np.testing.assert_allclose(
        data.read(np.arange(5)).std(axis=(1, 2, 3)), 1, rtol=1e-4
    )
    assert any(
        "each subtomogram is normalized" in getattr(e, "text", "") for e in events
    )
    with pytest.raises(ConfigError, match="gives the class away"):
        load(data=[folder], normalize="data")
    with pytest.raises(DataError, match="--normalize subtomogram for all"):
        load(data=[folder, write_stacks("common")])
    data, _ = load(data=[folder, write_stacks("other")], normalize="subtomogram")
    assert len(data) == 10


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("mode", ["data", "subtomogram"])
def test_a_nan_subtomogram_is_named(load, write_stacks, voxels, bad, mode):
    volumes = [v.copy() for v in slices(voxels)]
    volumes[3][1, 2, 3] = bad
    with warnings.catch_warnings(action="ignore"):  # mrcfile says it while writing
        folder = write_stacks(volumes=volumes)
    data, _ = load(data=[folder], normalize=mode)
    assert np.isfinite(data.read(np.array([0, 1, 2, 4]))).all()
    with pytest.raises(FormatError, match=r"subtomogram 4 \(b\) has NaN"):
        data.read(np.arange(5))


def test_an_unknown_class_is_an_error(load, write_stacks, write_folder, voxels):
    data, _ = load(data=[write_stacks()])
    with pytest.raises(DataError, match="unknown class b: the model knows a, none"):
        data.targets(["a", "none"])
    folder = write_folder(volumes=slices(voxels)[:2], labels=["a", "unknown"])
    with pytest.raises(DataError, match="'unknown' cannot be learned"):
        load(data=[folder])


def test_what_is_missing_is_said(load, tmp_path, write_star, make_mrc, voxels):
    with pytest.raises(ConfigError, match="--data"):
        load()
    with pytest.raises(FileMissingError, match="no such data set"):
        load(data=[tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FormatError, match="no data set"):
        load(data=[tmp_path / "empty"])
    star = write_star()
    with pytest.raises(ConfigError, match="--box"):
        load(data=[star], tomograms=[tmp_path])
    with pytest.raises(ConfigError, match="--tomograms"):
        load(data=[star], box=8)
    make_mrc(voxels, name="other.mrc")
    with pytest.raises(DataError, match="'tomogram'"):
        load(data=[star], box=8, tomograms=[tmp_path])
    make_mrc(voxels)
    with pytest.raises(DataError, match="larger than tomogram"):
        load(data=[star], box=40, tomograms=[tmp_path], invert=False)


def test_an_unfinished_data_set_is_an_error(load, write_stacks):
    folder = write_stacks()
    (folder / "dataset.json").unlink()
    with pytest.raises(FormatError, match="unfinished"):
        load(data=[folder])


def test_settings_of_data_are_checked(load):
    with pytest.raises(ValueError, match="lowest and highest"):
        load(tilt_range=(60, -60))
    with pytest.raises(ValueError, match="Extra inputs"):
        load(boxx=3)


def test_volumes_are_views_into_the_file(load, write_stacks):
    data, _ = load(data=[write_stacks()])
    assert all(isinstance(v, np.memmap) for v in data.volumes)
    with mrcfile.open(write_stacks("again") / "subtomograms_0000.mrc") as mrc:
        assert mrc.data.shape == (5, BOX, BOX, BOX)


def open_unlabeled(path, **settings):
    stream = load_unlabeled([path], DataConfig(**settings), 10.0, cancel=Cancel())
    while True:
        try:
            next(stream)
        except StopIteration as end:
            return end.value


def test_of_a_star_file_the_picks_without_a_label_are_the_unlabeled_ones(
    make_mrc, voxels, write_star
):
    star = write_star(labels=["b", "<empty>", "a", "<empty>", "none"], ectkdPickId=ID)
    settings = {"tomograms": [make_mrc(voxels)], "box": BOX, "invert": False}
    unlabeled = open_unlabeled(star, **settings)
    assert unlabeled.label.tolist() == ["", ""]
    np.testing.assert_allclose(unlabeled.positions, PLACES[[1, 3]] * 10.0)
    assert unlabeled.targets(["a"]).tolist() == [NO_TARGET, NO_TARGET]
    assert unlabeled.classes == []
    with pytest.raises(DataError, match="no unlabeled picks; each has a label"):
        open_unlabeled(write_star(), **settings)


def test_labels_of_a_folder_of_unlabeled_ones_are_not_looked_at(write_folder):
    unlabeled = open_unlabeled(write_folder(labels=["unheard", *LABELS[1:]]))
    assert len(unlabeled) == 5
    assert set(unlabeled.label) == {""}
