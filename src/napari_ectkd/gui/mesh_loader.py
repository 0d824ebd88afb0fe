"""Reads densities and makes their meshes in a thread, each file once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_ectkd.errors import EctkdError
from napari_ectkd.gui.meshes import mesh_levels
from napari_ectkd.simulation.density import load_densities

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from napari_ectkd.gui.meshes import Mesh

_VOXEL_SIZE = 6.0
"""Å: particles are told apart by their shape at twice this, and meshes stay small."""


class MeshLoader(QObject):
    """Makes meshes while the window goes on; `loaded` says that there are new ones.

    A thread serves: it takes a second or two, most of it in scipy.
    """

    loaded = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._found: dict[Path, tuple[Mesh, ...] | str] = {}
        self._is_active = False

    @property
    def is_active(self) -> bool:
        """Whether meshes are being made."""
        return self._is_active

    def levels(self, files: Mapping[str, Path]) -> dict[str, tuple[Mesh, ...]]:
        """Return the meshes of classes as far as they are there; see `mesh_levels`."""
        found = {name: self._found.get(path) for name, path in files.items()}
        return {name: of for name, of in found.items() if isinstance(of, tuple)}

    def problems(self, files: Mapping[str, Path]) -> list[str]:
        """Return what is wrong with the files of classes."""
        found = (self._found.get(path) for path in files.values())
        return [text for text in found if isinstance(text, str)]

    def load(self, paths: Collection[Path]) -> None:
        """Make the meshes that are not there yet; `loaded` comes when they are."""
        from superqt.utils import create_worker

        missing = [path for path in paths if path not in self._found]
        if not missing or self._is_active:
            return
        self._is_active = True
        worker = create_worker(_levels_of, missing)
        worker.returned.connect(self._returned)
        worker.errored.connect(self._errored)
        worker.start()

    def forget(self, paths: Collection[Path]) -> None:
        """Read files again when they are next asked for: they may have changed."""
        for path in paths:
            self._found.pop(path, None)

    def _returned(self, found: dict[Path, tuple[Mesh, ...] | str]) -> None:
        self._is_active = False
        self._found |= found
        self.loaded.emit()

    def _errored(self, error: Exception) -> None:
        self._is_active = False
        raise error  # a bug: napari shows its traceback


def _levels_of(paths: Collection[Path]) -> dict[Path, tuple[Mesh, ...] | str]:
    """Return the meshes of each file, or what is wrong with it."""
    found: dict[Path, tuple[Mesh, ...] | str] = {}
    for path in paths:
        try:
            found[path] = mesh_levels(load_densities([path], _VOXEL_SIZE)[0])
        except EctkdError as error:
            found[path] = str(error)
    return found
