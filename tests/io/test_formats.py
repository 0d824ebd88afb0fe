import gzip
import os
import time

import mrcfile
import numpy as np
import pytest
import tifffile

from napari_ectkd.errors import FileMissingError, FormatError
from napari_ectkd.io.formats import (
    open_stack,
    open_volume,
    tomogram_name,
    unpacked,
    write_mrc,
)

MODES = {0: np.int8, 1: np.int16, 2: np.float32, 6: np.uint16, 12: np.float16}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_: folder)
    return folder / "unpacked"


def voxels_of(dtype, shape=(4, 5, 6)):
    low = 0 if np.dtype(dtype).kind == "u" else -60
    return np.random.default_rng(0).integers(low, 100, shape).astype(dtype)


@pytest.mark.parametrize(("mode", "dtype"), MODES.items())
def test_every_mode_is_a_memory_map_of_its_own_type(make_mrc, mode, dtype):
    path = make_mrc(voxels_of(dtype), 7.5)
    with mrcfile.open(path) as mrc:
        assert mrc.header.mode == mode
    volume = open_volume(path)
    assert isinstance(volume.voxels, np.memmap)
    assert volume.voxels.dtype == dtype
    np.testing.assert_array_equal(volume.voxels, voxels_of(dtype))
    assert volume.voxel_sizes == pytest.approx((7.5, 7.5, 7.5))
    with pytest.raises(ValueError, match="read-only"):
        volume.voxels[0, 0, 0] = 1


@pytest.mark.parametrize("ending", [".mrc", ".rec", ".map", ".MRC"])
def test_endings(make_mrc, ending):
    path = make_mrc(voxels_of(np.float32), name=f"TS_01{ending}")
    assert open_volume(path).voxels.shape == (4, 5, 6)
    assert tomogram_name(path) == "TS_01"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b/TS_01.mrc.gz", "TS_01"),
        ("TS.01_bin4.rec", "TS.01_bin4"),
        ("TS_01", "TS_01"),
        ("TS_01.tomostar", "TS_01.tomostar"),
        ("x.TIFF", "x"),
    ],
)
def test_a_name_loses_its_endings_and_nothing_else(name, expected):
    assert tomogram_name(name) == expected


def test_voxel_sizes_come_as_z_y_x(make_mrc):
    path = make_mrc(voxels_of(np.float32), (1.5, 2.5, 3.5))  # mrcfile takes x, y, z
    assert open_volume(path).voxel_sizes == pytest.approx((3.5, 2.5, 1.5))


def test_a_file_of_the_other_byte_order(make_mrc):
    path = make_mrc(voxels_of(np.int16))
    with mrcfile.open(path) as mrc:
        header, data = mrc.header.copy(), mrc.data.copy()
    header.machst[:2] = 0x11
    swapped = header.tobytes()
    words = np.frombuffer(swapped, dtype="<u4").byteswap().tobytes()
    # Text, stamp and the rest of the header are bytes; numbers are 4 bytes each.
    mixed = words[:96] + swapped[96:108] + words[108:112] + swapped[112:196]
    mixed += words[196:208] + swapped[208:216] + words[216:224] + swapped[224:]
    path.write_bytes(mixed + data.astype(">i2").tobytes())
    volume = open_volume(path)
    np.testing.assert_array_equal(volume.voxels, voxels_of(np.int16))
    assert volume.voxel_sizes == pytest.approx((10, 10, 10))


def test_axes_stored_in_another_order_are_put_right(make_mrc):
    stored = voxels_of(np.float32)  # sections along x, rows along z, columns along y
    path = make_mrc(stored, mapc=2, mapr=3, maps=1)
    np.testing.assert_array_equal(open_volume(path).voxels, stored.transpose(1, 2, 0))


@pytest.mark.parametrize(("flags", "expected"), [(0, 200), (1, -56)])
def test_imod_says_whether_its_bytes_have_a_sign(make_mrc, flags, expected):
    path = make_mrc(np.full((3, 3, 3), -56, dtype=np.int8))
    raw = bytearray(path.read_bytes())
    raw[152:160] = np.array([1146047817, flags], dtype="<i4").tobytes()
    path.write_bytes(raw)
    assert open_volume(path).voxels[0, 0, 0] == expected


def test_trailing_bytes_do_no_harm(make_mrc):
    path = make_mrc(voxels_of(np.float32))
    path.write_bytes(path.read_bytes() + b"trailer")
    assert open_volume(path).voxels.shape == (4, 5, 6)


@pytest.mark.parametrize("n_bytes", [0, 500, 1024, 1024 + 4 * 119])
def test_a_truncated_file_is_an_error(make_mrc, n_bytes):
    path = make_mrc(voxels_of(np.float32))
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(FormatError, match=r"tomogram.mrc: not a readable MRC .*trunc"):
        open_volume(path)


def test_other_bytes_are_no_mrc(tmp_path):
    path = tmp_path / "text.mrc"
    path.write_text("hello " * 1000)
    with pytest.raises(FormatError, match=r"text.mrc: not a readable MRC"):
        open_volume(path)


@pytest.mark.parametrize("shape", [(5, 6), (1, 5, 6), (2, 3, 4, 5)])
def test_only_three_axes_are_a_tomogram(make_mrc, shape):
    path = make_mrc(np.zeros(shape, dtype=np.float32))
    with pytest.raises(FormatError, match="a tomogram has three axes"):
        open_volume(path)


def test_complex_voxels_are_an_error(make_mrc):
    path = make_mrc(np.zeros((4, 4, 4), dtype=np.complex64))
    with pytest.raises(FormatError, match="mode 4 holds complex numbers"):
        open_volume(path)


def test_a_missing_file_and_another_format(tmp_path):
    with pytest.raises(FileMissingError, match="no such file"):
        open_volume(tmp_path / "missing.mrc")
    (tmp_path / "image.png").touch()
    with pytest.raises(FormatError, match=r"image.png: not a known volume format"):
        open_volume(tmp_path / "image.png")


def test_an_unreadable_file_is_one_line(make_mrc, monkeypatch):
    path = make_mrc(voxels_of(np.float32))

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(mrcfile, "mmap", refuse)
    with pytest.raises(FormatError, match="Permission denied"):
        open_volume(path)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff(tmp_path, compression):
    path = tmp_path / "volume.tif"
    tifffile.imwrite(
        path, voxels_of(np.int16), compression=compression, photometric="minisblack"
    )
    volume = open_volume(path)
    np.testing.assert_array_equal(volume.voxels, voxels_of(np.int16))
    assert isinstance(volume.voxels, np.memmap) == (compression is None)
    assert volume.voxel_sizes == (0, 0, 0)


def test_a_broken_tiff_is_an_error(tmp_path):
    path = tmp_path / "broken.tif"
    path.write_bytes(b"")
    with pytest.raises(FormatError, match=r"broken.tif: not a readable TIFF"):
        open_volume(path)


def test_the_real_tomogram_opens(shared_data):
    volume = open_volume(shared_data / "experimental" / "microtubule_13pf.tif")
    expected = tifffile.imread(volume.path)
    np.testing.assert_array_equal(volume.voxels, expected)


@pytest.mark.parametrize("shape", [(4, 5, 6), (3, 4, 5, 6)])
def test_what_is_written_is_valid_and_reads_the_same(tmp_path, shape, capsys):
    path = tmp_path / "written.mrc"
    voxels = voxels_of(np.float32, shape)
    write_mrc(path, voxels, 12.5)
    assert mrcfile.validate(path), capsys.readouterr().out
    with mrcfile.open(path) as mrc:
        np.testing.assert_array_equal(mrc.data, voxels)
        assert mrc.voxel_size.x == pytest.approx(12.5)
        assert mrc.is_volume_stack() == (len(shape) == 4)
    stack = open_stack(path)
    np.testing.assert_array_equal(stack.voxels, voxels.reshape(-1, 4, 5, 6))
    assert stack.voxel_sizes == pytest.approx((12.5,) * 3)


def test_the_same_data_are_the_same_bytes_a_second_later(tmp_path, monkeypatch):
    path = tmp_path / "a.mrc"
    write_mrc(path, voxels_of(np.float32), 10)
    first = path.read_bytes()
    while time.time() % 1 < 0.95:  # mrcfile's label has whole seconds
        time.sleep(0.02)
    time.sleep(0.1)
    write_mrc(path, voxels_of(np.float32), 10)
    assert path.read_bytes() == first


def gzipped(path, content):
    path.write_bytes(gzip.compress(content))
    return path


def test_gzip_is_unpacked_once(make_mrc, tmp_path, cache):
    plain = make_mrc(voxels_of(np.int16), 5)
    path = gzipped(tmp_path / "packed.rec.gz", plain.read_bytes())
    volume = open_volume(path)
    assert isinstance(volume.voxels, np.memmap)
    assert volume.path == path
    np.testing.assert_array_equal(volume.voxels, voxels_of(np.int16))
    (file,) = cache.iterdir()
    number = file.stat().st_ino
    assert open_volume(path).voxel_sizes == pytest.approx((5, 5, 5))
    assert [f.stat().st_ino for f in cache.iterdir()] == [number]


def test_a_changed_gzip_is_unpacked_again(make_mrc, tmp_path, cache):
    for value in (1, 2):
        plain = make_mrc(np.full((3, 3, 3), value, dtype=np.int16))
        path = gzipped(tmp_path / "packed.mrc.gz", plain.read_bytes())
        os.utime(path, (value, value))
        assert (open_volume(path).voxels == value).all()


def test_the_files_used_longest_ago_leave_the_cache(tmp_path, cache):
    packed = [gzipped(tmp_path / f"{i}.mrc.gz", bytes(1000)) for i in range(4)]
    files = []
    for i, path in enumerate(packed[:3]):
        files.append(unpacked(path, limit=3500))
        os.utime(files[-1], (i, i))
    unpacked(packed[0], limit=3500)  # used again, so the second is the oldest now
    newest = unpacked(packed[3], limit=3500)
    assert {f.name for f in cache.iterdir()} == {
        files[0].name,
        files[2].name,
        newest.name,
    }


def test_more_than_the_cache_holds_is_an_error(tmp_path, cache):
    path = gzipped(tmp_path / "large.mrc.gz", bytes(5000))
    with pytest.raises(FormatError, match=r"large.mrc.gz: unpacks to more than"):
        unpacked(path, limit=4000)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "no gzip", "flipped"])
def test_a_broken_gzip_is_an_error_and_leaves_nothing(tmp_path, cache, damage):
    content = gzip.compress(np.random.default_rng(0).bytes(4000))
    flipped = content[:2000] + bytes([content[2000] ^ 255]) + content[2001:]
    broken = {"cut": content[:2000], "no gzip": b"hello" * 20, "flipped": flipped}
    path = tmp_path / "broken.mrc.gz"
    path.write_bytes(broken[damage])
    with pytest.raises(FormatError, match=r"broken.mrc.gz: a broken gzip file"):
        open_volume(path)
    assert list(cache.iterdir()) == []
