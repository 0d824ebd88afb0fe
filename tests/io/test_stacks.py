import mrcfile
import numpy as np
import pytest
import starfile

from napari_ectkd.errors import ConfigError, FormatError, WriteError
from napari_ectkd.io.stacks import (
    StackInfo,
    StackWriter,
    is_stack_folder,
    open_stacks,
)

LABELS = ["80S ribosome", "none", "5' end", "001"]
INFO = StackInfo(
    box=8,
    voxel_size=10.5,
    classes=LABELS,
    tilt_range=(-60, 60),
    snr={"001": 0.1},
    simulation={"seed": 3},
)
VOXELS = np.random.default_rng(0).normal(size=(7, 8, 8, 8)).astype(np.float32)


@pytest.fixture
def data_set(tmp_path):
    return write(tmp_path / "data")


def write(folder, order=(0, 1, 2)):
    writer = StackWriter(folder, INFO)
    for number in order:
        some = np.arange(7)[3 * number : 3 * number + 3]
        labels = [LABELS[i % 4] for i in some]
        writer.write(number, VOXELS[some], labels, {"ectkdSnr": 0.1 * some})
    writer.finish(3)
    return folder


def test_a_data_set_comes_back(data_set):
    info, volumes, labels = open_stacks(data_set)
    assert info == INFO
    assert labels == [LABELS[i % 4] for i in range(7)]
    np.testing.assert_array_equal(volumes, VOXELS)
    assert all(isinstance(volume, np.memmap) for volume in volumes)


def test_the_files_are_plain_mrc_and_star(data_set):
    table = starfile.read(data_set / "subtomograms.star")
    assert table["rlnImageName"][3] == "000001@subtomograms_0001.mrc"
    np.testing.assert_allclose(table["ectkdSnr"], 0.1 * np.arange(7))
    with mrcfile.open(data_set / "subtomograms_0001.mrc") as mrc:
        assert mrc.is_volume_stack()
        assert mrc.voxel_size.x == pytest.approx(10.5)
        np.testing.assert_array_equal(mrc.data, VOXELS[3:6])


def test_the_same_data_are_the_same_bytes(data_set, tmp_path):
    again = write(tmp_path / "again", order=(2, 0, 1))
    names = sorted(file.name for file in data_set.iterdir())
    assert names == sorted(file.name for file in again.iterdir())
    for name in names:
        assert (data_set / name).read_bytes() == (again / name).read_bytes()


def test_an_unfinished_data_set_is_an_error(data_set):
    (data_set / "dataset.json").unlink()
    assert is_stack_folder(data_set)
    with pytest.raises(FormatError, match="unfinished data set"):
        open_stacks(data_set)


def test_other_folders_are_no_data_sets(tmp_path, data_set):
    assert is_stack_folder(data_set)
    assert not is_stack_folder(tmp_path)


def test_a_folder_with_files_is_not_written_to(data_set, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    with pytest.raises(ConfigError, match="not an empty folder"):
        StackWriter(tmp_path / "full", INFO)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="not an empty folder"):
        StackWriter(tmp_path / "file", INFO)
    with pytest.raises(WriteError, match="cannot write"):
        StackWriter(tmp_path / "file" / "below", INFO)


def test_whole_stacks_are_kept_and_those_of_other_settings_refused(tmp_path):
    folder = tmp_path / "data"
    StackWriter(folder, INFO).write(1, VOXELS[3:6], LABELS[:3])
    (folder / ".writing-x-subtomograms_0000.mrc").touch()  # as a killed process leaves
    other = INFO.model_copy(update={"simulation": {"seed": 4}})
    with pytest.raises(ConfigError, match="seed 3 there, 4 now"):
        StackWriter(folder, other)
    # What the signal to noise came to is known at the end.
    writer = StackWriter(folder, INFO.model_copy(update={"snr": {}}))
    assert [writer.has(number) for number in range(3)] == [False, True, False]
    assert not list(folder.glob(".writing-*"))
    writer.write(0, VOXELS[:3], LABELS[:3])
    writer.finish(2)
    assert sorted(path.name for path in folder.iterdir()) == [
        "dataset.json",
        "subtomograms.star",
        "subtomograms_0000.mrc",
        "subtomograms_0001.mrc",
    ]
    np.testing.assert_array_equal(open_stacks(folder)[1], VOXELS[:6])
    # Killed between the last file and tidying up.
    (folder / "unfinished.json").write_bytes((folder / "dataset.json").read_bytes())
    assert StackWriter(folder, INFO).is_finished
    assert not (folder / "unfinished.json").exists()


def cut_json(folder):
    path = folder / "dataset.json"
    path.write_text(path.read_text()[:30])


def wrong_info(folder):
    (folder / "dataset.json").write_text('{"box": -1, "what": 2}')


def no_table(folder):
    (folder / "subtomograms.star").unlink()


def no_stack(folder):
    (folder / "subtomograms_0001.mrc").unlink()


def short_stack(folder):
    path = folder / "subtomograms_0001.mrc"
    path.write_bytes(path.read_bytes()[:-100])


def fewer_volumes(folder):
    path = folder / "subtomograms_0002.mrc"
    path.write_bytes((folder / "subtomograms_0001.mrc").read_bytes())
    table = starfile.read(folder / "subtomograms.star", parse_as_string=["ectkdLabel"])
    table["rlnImageName"] = "000009@subtomograms_0002.mrc"
    starfile.write({"particles": table}, folder / "subtomograms.star")


def another_box(folder):
    path = folder / "dataset.json"
    path.write_text(path.read_text().replace('"box": 8', '"box": 9'))


@pytest.mark.parametrize(
    "damage",
    [cut_json, wrong_info, no_table, no_stack, short_stack, fewer_volumes, another_box],
)
def test_a_broken_data_set_is_one_line(data_set, damage):
    damage(data_set)
    with pytest.raises((FormatError, FileNotFoundError)) as error:
        open_stacks(data_set)
    assert "\n" not in str(error.value)
    assert type(error.value).__module__ == "napari_ectkd.errors"
