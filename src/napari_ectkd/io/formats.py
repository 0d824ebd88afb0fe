"""Volumes by file format: MRC (plain or gzipped) and TIFF, as memory maps."""

from __future__ import annotations

import gzip
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ectkd.errors import FileMissingError, FormatError
from napari_ectkd.io.atomic import atomic_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

MRC_ENDINGS = (".mrc", ".rec", ".map")
TIFF_ENDINGS = (".tif", ".tiff")
_IMOD_STAMP = 1146047817
VOLUME_ENDINGS = (*MRC_ENDINGS, *(f"{e}.gz" for e in MRC_ENDINGS), *TIFF_ENDINGS)


@dataclass(frozen=True)
class VolumeFile:
    """A volume and what its header says of it.

    Attributes
    ----------
    path
        The file that was named.
    voxels
        `(z, y, x)`, or `(n, z, y, x)` for a stack of volumes.
    voxel_sizes
        Å along z, y, x as in the header; 0 where it is silent.
    """

    path: Path
    voxels: NDArray
    voxel_sizes: tuple[float, float, float]


def tomogram_name(path: Path | str) -> str:
    """Return what picks call the tomogram of a file: its name without endings."""
    name = Path(path).name
    for ending in sorted(VOLUME_ENDINGS, key=len, reverse=True):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def open_volume(path: Path) -> VolumeFile:
    """Open a 3D volume as a memory map.

    Raises
    ------
    FileMissingError
        If there is no such file.
    FormatError
        If it is of no known format, truncated, not 3D, or not of real numbers.
    """
    volume = _open(path)
    if volume.voxels.ndim != 3 or min(volume.voxels.shape) < 2:
        raise FormatError(
            f"{path.name}: image of shape {volume.voxels.shape}; a tomogram has three "
            "axes (z, y, x) of at least 2 voxels"
        )
    return volume


def open_stack(path: Path) -> VolumeFile:
    """Open an MRC stack of volumes, `(n, z, y, x)`; a single volume is a stack of 1.

    Raises
    ------
    FileMissingError, FormatError
        As `open_volume`.
    """
    volume = _open(path)
    voxels = volume.voxels[None] if volume.voxels.ndim == 3 else volume.voxels
    if voxels.ndim != 4:
        raise FormatError(
            f"{path.name}: image of shape {voxels.shape}; subtomograms are volumes"
        )
    return VolumeFile(path, voxels, volume.voxel_sizes)


def write_mrc(
    path: Path, voxels: NDArray, voxel_size: float, notes: Sequence[str] = ()
) -> None:
    """Write `(z, y, x)`, or a stack `(n, z, y, x)`, as MRC with its voxel size in Å.

    Parameters
    ----------
    path
        File to write.
    voxels
        Of a type that MRC has.
    voxel_size
        Å.
    notes
        Up to nine lines of ASCII for the header, 80 characters each.

    Raises
    ------
    WriteError
        If the file cannot be written.
    """
    import mrcfile

    with (
        atomic_path(path) as temporary,
        mrcfile.new(temporary, overwrite=True) as mrc,
    ):
        mrc.set_data(np.ascontiguousarray(voxels))
        if voxels.ndim == 3:  # four axes are a stack of volumes by themselves
            mrc.set_volume()
        mrc.voxel_size = voxel_size
        # mrcfile stamps the time into the header; the same data is to be the same file.
        mrc.header.label[0] = b"napari-ectkd"
        for row, note in enumerate(notes, 1):
            mrc.header.label[row] = note.encode("ascii")
            mrc.header.nlabl = row + 1


def _open(path: Path) -> VolumeFile:
    if not path.is_file():
        raise FileMissingError(f"{path}: no such file")
    name = path.name.lower()
    if name.endswith(tuple(f"{ending}.gz" for ending in MRC_ENDINGS)):
        return _open_mrc(unpacked(path), path)
    if name.endswith(MRC_ENDINGS):
        return _open_mrc(path, path)
    if name.endswith(TIFF_ENDINGS):
        return _open_tiff(path)
    raise FormatError(
        f"{path.name}: not a known volume format; use one of "
        + ", ".join(VOLUME_ENDINGS)
    )


def _open_mrc(path: Path, shown: Path) -> VolumeFile:
    import mrcfile

    try:
        with warnings.catch_warnings():
            # Truncation raises; a map's odd header fields are no concern here.
            warnings.simplefilter("ignore")
            mrc = mrcfile.mmap(path, mode="r", permissive=False)
    except (ValueError, OSError) as error:
        raise FormatError(
            f"{shown.name}: not a readable MRC file ({error}); it may be truncated: "
            "copy or export it again"
        ) from error
    sizes = mrc.voxel_size
    if mrc.data.dtype.kind == "c":
        raise FormatError(
            f"{shown.name}: MRC mode {int(mrc.header.mode)} holds complex numbers (a "
            "Fourier transform); a tomogram has real ones"
        )
    if mrc.data.size == 0:
        raise FormatError(f"{shown.name}: the MRC file holds no voxels")
    voxels = _in_zyx(_unsigned_if_imod(mrc.data, mrc.header), mrc.header)
    return VolumeFile(shown, voxels, (float(sizes.z), float(sizes.y), float(sizes.x)))


def _unsigned_if_imod(voxels: NDArray, header: Any) -> NDArray:
    """Return bytes as unsigned where IMOD wrote them so.

    MRC 2014 says that mode 0 is signed. IMOD, which stamps its files, sets the first of
    its flags only if that holds (IMOD's MRC format description, `imodStamp`).
    """
    stamp, flags = np.frombuffer(header.extra2.tobytes(), header.mode.dtype)[10:12]
    if voxels.dtype == np.int8 and stamp == _IMOD_STAMP and not flags & 1:
        return voxels.view(np.uint8)
    return voxels


def _in_zyx(voxels: NDArray, header: Any) -> NDArray:
    """Return the axes in the order z, y, x where the header says that they are not."""
    # Numbers of the section, row and column axes; x is 1.
    order = [int(header.maps), int(header.mapr), int(header.mapc)]
    if voxels.ndim != 3 or sorted(order) != [1, 2, 3]:
        return voxels
    return voxels.transpose(order.index(3), order.index(2), order.index(1))


def _open_tiff(path: Path) -> VolumeFile:
    import tifffile

    voxels: NDArray
    try:
        try:
            voxels = tifffile.memmap(path, mode="r")
        except ValueError:
            voxels = tifffile.imread(path)  # compressed: it has to be read
    except (tifffile.TiffFileError, OSError, ValueError) as error:
        raise FormatError(f"{path.name}: not a readable TIFF file ({error})") from error
    if voxels.dtype.kind not in "iuf":
        raise FormatError(f"{path.name}: voxels of type {voxels.dtype}, not numbers")
    # TIFF resolution tags are rarely right for volumes: better ask than trust them.
    return VolumeFile(path, voxels, (0.0, 0.0, 0.0))


CACHE_BYTES = 64 * 2**30
"""Most that unpacked tomograms may take on the disk together."""


def unpacked(path: Path, *, limit: int = CACHE_BYTES) -> Path:
    """Return a file with the unpacked content of a gzip, from the cache if it is there.

    The oldest files go once the cache would pass `limit` bytes.

    Raises
    ------
    FormatError
        If the gzip is broken, or its content alone passes the limit.
    """
    import hashlib

    import platformdirs

    stat = path.stat()
    facts = f"{path.resolve()}|{stat.st_mtime_ns}|{stat.st_size}"
    key = hashlib.sha256(facts.encode()).hexdigest()[:16]
    folder = platformdirs.user_cache_path("napari-ectkd") / "unpacked"
    target = folder / f"{key}-{tomogram_name(path)}.mrc"
    if target.exists():
        target.touch()  # the last use, for the order of eviction
        return target
    with atomic_path(target) as temporary:
        with gzip.open(path) as packed, temporary.open("wb") as out:
            for chunk in _chunks(packed, path):
                out.write(chunk)
                if out.tell() > limit:
                    raise FormatError(
                        f"{path.name}: unpacks to more than {limit / 2**30:.1f} GiB; "
                        "unpack it yourself (gunzip)"
                    )
        _make_room(folder, limit - temporary.stat().st_size, keep=temporary)
    return target


def _chunks(packed: gzip.GzipFile, path: Path) -> Iterator[bytes]:
    """Yield what a gzip holds, 16 MiB at a time."""
    try:
        while chunk := packed.read(2**24):
            yield chunk
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise FormatError(
            f"{path.name}: a broken gzip file ({error}); copy it again"
        ) from error


def _make_room(folder: Path, limit: int, keep: Path) -> None:
    """Delete the files used longest ago until the rest fits into `limit` bytes."""
    files = [f for f in folder.glob("*.mrc") if f != keep]
    files.sort(key=lambda f: f.stat().st_mtime, reverse=True)
    total = 0
    for file in files:
        total += file.stat().st_size
        if total > limit:
            file.unlink(missing_ok=True)
