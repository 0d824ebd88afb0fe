import sys
from importlib.util import find_spec

import pytest

from napari_ectkd.gui import triton_guard
from napari_ectkd.gui.triton_guard import TritonGuard, keep_triton_out

MESA = "7f00-7f01 r-xp 0 fe:00 1 /usr/lib/x86_64-linux-gnu/libLLVM-15.so.1\n"


@pytest.fixture
def maps(tmp_path, monkeypatch):
    """Be a process with some libraries, and a Triton that can be imported."""
    package = tmp_path / "triton"
    package.mkdir()
    (package / "__init__.py").write_text("is_here = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "triton", raising=False)
    file = tmp_path / "maps"
    monkeypatch.setattr(triton_guard, "_MAPS", file)
    yield file
    sys.modules.pop("triton", None)


def test_beside_mesa_triton_is_not_there(maps):
    maps.write_text("7f00 /usr/lib/libc.so.6\n" + MESA)
    with pytest.raises(ImportError, match="that of Mesa's OpenGL"):
        import triton  # noqa: F401
    assert find_spec("triton") is not None  # torch asks, and imports it elsewhere
    # What else is imported is no concern of the guard.
    assert find_spec("json") is not None


@pytest.mark.parametrize("text", ["7f00 /usr/lib/libc.so.6\n", None])
def test_elsewhere_it_is(maps, text):
    if text is not None:  # else there is no such file, as on a Mac
        maps.write_text(text)
    import triton

    assert triton.is_here


def test_one_guard_is_enough():
    keep_triton_out()
    keep_triton_out()
    assert sum(isinstance(finder, TritonGuard) for finder in sys.meta_path) == 1
