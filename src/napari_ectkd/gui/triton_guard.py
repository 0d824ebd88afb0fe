"""Triton stays out of a process that draws with Mesa, which it would end.

A torch for CUDA loads Triton as soon as it looks whether it is there, be it for the
shape of a network's output. Triton has an LLVM of its own. Where Mesa draws (without
NVIDIA's driver, or on the screen of another GPU) Mesa's is in napari's process already,
and the second one is a segmentation fault. Where Triton cannot be imported, torch does
without: only `torch.compile` on a GPU needs it, and we compile in other processes.
"""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

_MAPS = Path("/proc/self/maps")


class TritonGuard(MetaPathFinder):
    """Finds a Triton that cannot be imported while another LLVM is loaded.

    That it is there may be asked: torch does as it begins with CUDA.
    """

    def find_spec(
        self,
        fullname: str,
        _path: Sequence[str] | None,
        _target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return a spec of Triton where it would end the process, else nothing."""
        if fullname == "triton" and has_other_llvm():
            return ModuleSpec(fullname, _Refusal())
        return None


class _Refusal(Loader):
    """Loads nothing."""

    def exec_module(self, module: ModuleType) -> None:
        """Say why.

        Raises
        ------
        ModuleNotFoundError
            In any case.
        """
        raise ModuleNotFoundError(
            "Triton is not loaded: its LLVM and that of Mesa's OpenGL, which is loaded "
            "already, do not go together",
            name=module.__name__,
        )


def keep_triton_out() -> None:
    """Install the guard, once."""
    if not any(isinstance(finder, TritonGuard) for finder in sys.meta_path):
        sys.meta_path.insert(0, TritonGuard())


def has_other_llvm() -> bool:
    """Return whether the LLVM of another library is in this process."""
    try:
        return "libLLVM" in _MAPS.read_text(errors="replace")
    except OSError:
        return False  # not on Linux
