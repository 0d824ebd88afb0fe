import mrcfile
import numpy as np
import pytest

from napari_ectkd.errors import (
    ConfigError,
    DataError,
    FileMissingError,
    FormatError,
    VoxelSizeError,
)
from napari_ectkd.io.tomogram import guess_is_inverted, open_tomogram
from napari_ectkd.io.tomogram_list import (
    TomogramEntry,
    open_tomograms,
    read_tomogram_list,
    write_tomogram_list,
)

ALL = (slice(None),) * 3


def blobs(sign, *, noise=1.0, shape=(40, 64, 64)):
    rng = np.random.default_rng(3)
    voxels = rng.normal(0, noise, shape)
    for z, y, x in rng.integers(0, np.array(shape) - 10, (12, 3)):
        voxels[z : z + 10, y : y + 10, x : x + 10] += 2 * sign
    return voxels.astype(np.float32)


@pytest.mark.parametrize(
    "dtype", [np.int8, np.int16, np.float32, np.uint16, np.float16]
)
def test_a_region_is_float32_and_protein_bright(make_mrc, dtype):
    voxels = np.random.default_rng(0).integers(0, 100, (4, 5, 6)).astype(dtype)
    path = make_mrc(voxels)
    region = (slice(1, 3), slice(None), slice(2, 5))
    for is_inverted, sign in ((False, 1), (True, -1)):
        read = open_tomogram(path, is_inverted=is_inverted).read(region)
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, sign * voxels[region].astype(np.float32))
        read[...] = 0  # a copy, not the file


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("offset", [0, 500])
def test_contrast_is_guessed_and_can_be_stated(make_mrc, sign, offset):
    tomogram = open_tomogram(make_mrc(blobs(sign) + offset))
    assert tomogram.is_inverted == (sign < 0)
    assert tomogram.contrast_is_guessed
    stated = tomogram.with_contrast(is_inverted=sign > 0)
    assert stated.is_inverted == (sign > 0)
    assert not stated.contrast_is_guessed


def test_dark_gold_does_not_decide_the_contrast():
    voxels = blobs(1)
    voxels[5:9, 20:23, 20:23] = -200
    assert not guess_is_inverted(voxels)


@pytest.mark.parametrize("voxels", [np.zeros((5, 5, 5)), np.full((2, 2, 2), np.nan)])
def test_a_guess_about_nothing_is_bright(voxels):
    assert not guess_is_inverted(voxels.astype(np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_broken_voxel_is_named_where_it_is_read(make_mrc, value):
    voxels = np.zeros((6, 7, 8), dtype=np.float32)
    voxels[4, 5, 6] = value
    with np.errstate(all="ignore"):
        path = make_mrc_quietly(make_mrc, voxels)
    tomogram = open_tomogram(path, is_inverted=False)
    assert tomogram.read((slice(0, 4), slice(None), slice(None))).max() == 0
    with pytest.raises(FormatError, match=r"voxel \(z 4, y 5, x 6\) is NaN or inf"):
        tomogram.read((slice(2, None), slice(-3, None), slice(6, 8)))


def make_mrc_quietly(make_mrc, voxels):
    """Write NaN voxels, of which mrcfile warns."""
    path = make_mrc(np.zeros_like(voxels))
    raw = path.read_bytes()
    path.write_bytes(raw[:1024] + voxels.tobytes())
    return path


def test_size_and_extent(make_mrc):
    tomogram = open_tomogram(make_mrc(np.zeros((4, 5, 6), dtype=np.float32), 8))
    assert (tomogram.name, tomogram.shape) == ("tomogram", (4, 5, 6))
    np.testing.assert_allclose(tomogram.extent, [24, 32, 40])


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, "has no voxel size"),
        (1, "says 1 Å per voxel, which cannot be trusted"),
        (0.01, "says 0.01 Å"),
        (5000, "says 5000 Å"),
        ((10, 10, 12), r"differ along z, y, x \(12, 10, 10 Å\)"),
        (-3, "says -3 Å"),
    ],
)
def test_a_voxel_size_that_cannot_be_right_is_an_error(make_mrc, size, message):
    path = make_mrc(np.zeros((4, 4, 4), dtype=np.float32), size)
    with pytest.raises(VoxelSizeError, match=message) as error:
        open_tomogram(path)
    assert "--voxel-size" in str(error.value)
    assert "\n" not in str(error.value)
    assert open_tomogram(path, voxel_size=6.5).voxel_size == 6.5


def test_nearly_equal_sizes_are_averaged(make_mrc):
    path = make_mrc(np.zeros((4, 4, 4), dtype=np.float32), (10, 10.02, 10.01))
    assert open_tomogram(path).voxel_size == pytest.approx(10.01, abs=1e-3)


@pytest.mark.parametrize("size", [0, -5, 0.05, 1e6, float("nan")])
def test_an_absurd_given_size_is_an_error(make_mrc, size):
    path = make_mrc(np.zeros((4, 4, 4), dtype=np.float32))
    with pytest.raises(ConfigError, match=r"outside .* to 200 Å"):
        open_tomogram(path, voxel_size=size)


def test_the_real_densities_are_bright(shared_data):
    for path in sorted((shared_data / "densities_10A").glob("*.mrc")):
        with mrcfile.open(path, permissive=True) as mrc:
            expected = mrc.data.copy()
        tomogram = open_tomogram(path)
        assert not tomogram.is_inverted
        np.testing.assert_array_equal(tomogram.read(ALL), expected)


def test_tomograms_by_name_from_folders_files_and_lists(make_mrc, tmp_path):
    voxels = np.zeros((4, 4, 4), dtype=np.float32)
    one = make_mrc(voxels, name="many/one.mrc")
    make_mrc(voxels, name="many/two.rec")
    (tmp_path / "many" / "notes.txt").touch()
    three = make_mrc(voxels, name="three.map")
    entries = [TomogramEntry(path=three, voxel_size=4, is_inverted=True)]
    write_tomogram_list(tmp_path / "tomograms.json", entries)
    assert read_tomogram_list(tmp_path / "tomograms.json") == entries
    sources = [tmp_path / "many", tmp_path / "tomograms.json"]
    opened = open_tomograms(sources, ["one", "two.rec", "three"], voxel_size=7)
    assert {n: (t.voxel_size, t.is_inverted) for n, t in opened.items()} == {
        "one": (7, False),
        "two.rec": (7, False),
        "three": (4, True),
    }
    assert open_tomograms([one], [""])[""].name == "one"
    with pytest.raises(DataError, match="no files for tomogram 'four'; found one, two"):
        open_tomograms([tmp_path / "many"], ["four"])
    with pytest.raises(DataError, match="2 files for tomogram 'one'"):
        open_tomograms([tmp_path / "many", one], ["one"])
    with pytest.raises(DataError, match="no files for tomogram ''"):
        open_tomograms([tmp_path / "many"], [""])
    with pytest.raises(FileMissingError, match="no such file or folder"):
        open_tomograms([tmp_path / "nowhere"], ["one"])


def test_an_entry_opens_as_the_same_tomogram(make_mrc):
    tomogram = open_tomogram(
        make_mrc(np.zeros((4, 4, 4), dtype=np.float32)),
        voxel_size=5,
        is_inverted=True,
        tilt_range=(-50, 60),
    )
    entry = TomogramEntry.of(tomogram)
    again = open_tomogram(**entry.model_dump())
    assert (again.voxel_size, again.is_inverted) == (5, True)
    assert again.tilt_range == (-50, 60)


@pytest.mark.parametrize("text", ["", "{}", '[{"path": "a", "size": 3}]'])
def test_a_broken_list_is_one_line(tmp_path, text):
    path = tmp_path / "tomograms.json"
    path.write_text(text)
    with pytest.raises(FormatError, match="not a list of tomograms") as error:
        read_tomogram_list(path)
    assert "\n" not in str(error.value)
