"""Writing files whole or not at all."""

from __future__ import annotations

import os
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from napari_ectkd.errors import EctkdError, WriteError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Python can only read the umask by setting it, and threads share it: two at once could
# leave it open.
_ONE_AT_A_TIME = threading.Lock()


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to `path` on success.

    The temporary name ends like `path`, for libraries that go by the extension. If the
    block raises, the temporary file is removed and what was at `path` stays.

    Raises
    ------
    WriteError
        If the folder or the file cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=".writing-", suffix=f"-{path.name}", dir=path.parent
        )
        os.close(handle)
    except OSError as error:
        raise cannot_write(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private; others in the lab read results too.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except EctkdError:
        raise
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> Path:
    """Create a folder and its parents; return it.

    Raises
    ------
    WriteError
        If it cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise cannot_write(path, error) from error
    return path


def cannot_write(path: Path, error: OSError) -> WriteError:
    """Return the error to raise where `path` could not be written."""
    return WriteError(
        f"cannot write {path}: {error.strerror or error}; choose a folder that you "
        "may write to, on a disk with room"
    )


def _umask() -> int:
    with _ONE_AT_A_TIME:
        mask = os.umask(0)
        os.umask(mask)
    return mask
