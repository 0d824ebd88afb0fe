"""Densities by their number in a public archive, kept once they are downloaded.

`pdb:4v4r` is an entry of the Protein Data Bank (atoms), `emdb:1234` one of the Electron
Microscopy Data Bank (a map).
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import platformdirs

from napari_ectkd.errors import ConfigError, FileMissingError
from napari_ectkd.io.atomic import make_folder

if TYPE_CHECKING:
    from pathlib import Path

PDB_URL = "https://files.rcsb.org/download"
EMDB_URL = "https://ftp.ebi.ac.uk/pub/databases/emdb/structures"
_ENTRY = re.compile(r"(pdb|emdb):(.*)", re.IGNORECASE)
_PDB_ID = re.compile(r"[1-9][a-z0-9]{3}")
_EMDB_ID = re.compile(r"(?:emd-)?(\d{4,5})")
_SECONDS = 30
"""That a server may be silent."""


def entry_file(entry: Path) -> str | None:
    """Return the name of the file that an entry is kept as, or None for other paths.

    Parameters
    ----------
    entry
        A path, or what is no path: `pdb:4v4r`, `emdb:1234` (or `emdb:EMD-1234`).

    Raises
    ------
    ConfigError
        If it names an archive, but no entry.
    """
    found = _ENTRY.fullmatch(str(entry))
    if not found:
        return None
    archive, number = found[1].lower(), found[2].strip().lower()
    if archive == "pdb":
        if not _PDB_ID.fullmatch(number):
            raise ConfigError(
                f"{entry}: entries of the PDB have a digit and three letters or "
                "digits, as in pdb:4v4r"
            )
        return f"{number}.cif.gz"
    digits = _EMDB_ID.fullmatch(number)
    if not digits:
        raise ConfigError(
            f"{entry}: entries of the EMDB have four or five digits, as in emdb:1234"
        )
    return f"emd_{digits[1]}.map.gz"


def fetch(entry: Path) -> Path:
    """Return the file of an entry, downloaded unless it has been before.

    Parameters
    ----------
    entry
        As for `entry_file`, which has to know it.

    Raises
    ------
    ConfigError
        If it is no entry.
    FileMissingError
        If it cannot be downloaded; the text says what to do.
    WriteError
        If the cache cannot be written.
    """
    name = entry_file(entry)
    if name is None:
        raise ConfigError(f"{entry}: neither pdb:ID nor emdb:ID")
    folder = platformdirs.user_cache_path("napari-ectkd") / "densities"
    path = folder / name
    if path.is_file():
        return path
    # Late: it takes a third of a second, which those with files need not wait.
    import pooch

    # Without a hash to compare with, it announces one to keep; archives mend entries.
    pooch.get_logger().setLevel(logging.WARNING)
    url = _url(name)
    try:
        # Written under a temporary name and moved, so that a half is never taken.
        pooch.retrieve(
            url,
            known_hash=None,
            fname=name,
            path=make_folder(folder),
            downloader=pooch.HTTPDownloader(timeout=_SECONDS),
        )
    except (OSError, ValueError) as error:  # what requests raises are OSErrors
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status == 404:
            raise FileMissingError(
                f"{entry}: the archive has no such entry ({url}); check its number"
            ) from error
        reason = str(error).splitlines()[0].rpartition("Caused by ")[2][:120]
        raise FileMissingError(
            f"{entry}: cannot download {url} ({reason}); without a network, download "
            f"that on another computer and state the file, or put it at {path}"
        ) from error
    return path


def _url(name: str) -> str:
    if name.endswith(".cif.gz"):
        return f"{PDB_URL}/{name}"
    number = name.removeprefix("emd_").removesuffix(".map.gz")
    return f"{EMDB_URL}/EMD-{number}/map/{name}"
