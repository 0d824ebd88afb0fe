"""What tests of several stages share."""

from __future__ import annotations

import os
from pathlib import Path

import mrcfile
import numpy as np
import pytest


def pytest_collection_modifyitems(items):
    """Say which tests stay together where several processes run them."""
    for item in items:
        # Windows share the screen: a key goes to the one that was shown last.
        is_window = "/tests/gui/window/" in item.path.as_posix()
        group = "windows" if is_window else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real densities and a real tomogram; they are no part of the repository."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ECTKD_DATA", beside))
    if not folder.is_dir():
        pytest.skip("real data are not here; set ECTKD_DATA to their folder")
    return folder


@pytest.fixture
def make_mrc(tmp_path):
    """Write an MRC file with mrcfile alone, and return its path."""

    def make(voxels, voxel_size=10.0, name="tomogram.mrc", **header):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with mrcfile.new(path, overwrite=True) as mrc:
            mrc.set_data(np.asarray(voxels))
            if np.ndim(voxels) == 3:
                mrc.set_volume()
            mrc.voxel_size = voxel_size
            for field, value in header.items():
                mrc.header[field] = value
        return path

    return make
