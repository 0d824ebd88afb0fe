"""How subtomograms are simulated, as a JSON file: for a stream, or more of a kind."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING

from pydantic import ValidationError

from napari_ectkd.errors import FileMissingError, FormatError
from napari_ectkd.io.atomic import atomic_path
from napari_ectkd.io.stacks import INFO
from napari_ectkd.simulation.config import SubtomogramSettings
from napari_ectkd.simulation.density import density_hashes

if TYPE_CHECKING:
    from pathlib import Path


def write_settings(settings: SubtomogramSettings, path: Path) -> None:
    """Write how subtomograms are simulated, as JSON for `read_settings`.

    Raises
    ------
    WriteError
        If the file cannot be written.
    """
    # What is no file is an entry to download.
    density = [file.resolve() if file.exists() else file for file in settings.density]
    known = SubtomogramSettings.model_fields
    kept = {name: value for name, value in settings if name in known}
    whole = SubtomogramSettings.model_validate(kept | {"density": density})
    with atomic_path(path) as temporary:
        temporary.write_text(whole.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_settings(path: Path) -> SubtomogramSettings:
    """Return the settings of a simulation.

    Parameters
    ----------
    path
        A file that `ectkd simulate settings` wrote, or the folder of a data set, whose
        settings are taken.

    Raises
    ------
    FileMissingError
        If there is no such file.
    FormatError
        If these are no settings.
    """
    file = path / INFO if path.is_dir() else path
    if not file.is_file():
        raise FileMissingError(
            f"{file}: no such file; `ectkd simulate settings` writes one"
        )
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        found = found.get("simulation", found)
        # Of an earlier version's data set.
        return SubtomogramSettings.model_validate(
            {key: value for key, value in found.items() if key != "out"}
        )
    except ValidationError as error:
        what = "; ".join(f"{p['loc']}: {p['msg']}" for p in error.errors())
        raise FormatError(f"{file}: no settings of a simulation ({what})") from error
    except (ValueError, AttributeError) as error:
        raise FormatError(f"{file}: no settings of a simulation ({error})") from error


def fingerprint(settings: SubtomogramSettings) -> str:
    """Return a hash of the settings, and of what is in the density files.

    Raises
    ------
    EctkdError
        As `density_hashes`.
    """
    found = sha256(settings.model_dump_json().encode())
    found.update(json.dumps(density_hashes(settings.density)).encode())
    return found.hexdigest()
