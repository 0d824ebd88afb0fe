from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from napari_ectkd.simulation.config import SubtomogramSimulation, TomogramSimulation


def test_config_loads_nothing_heavy():
    code = (
        "import sys, napari_ectkd.simulation.config\n"
        "heavy = {'torch', 'scipy', 'gemmi', 'pandas', 'napari'} & set(sys.modules)\n"
        "raise SystemExit(', '.join(sorted(heavy)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""


@pytest.mark.parametrize("config", [SubtomogramSimulation, TomogramSimulation])
def test_every_setting_is_described(config):
    for name, field in config.model_fields.items():
        assert field.description, name


@pytest.mark.parametrize("tilt_range", [(60, -60), (-91, 60), (0, 0)])
def test_tilt_range_in_order(tmp_path, tilt_range):
    with pytest.raises(ValidationError, match="lowest and highest tilt"):
        SubtomogramSimulation(out=tmp_path, per_class=1, tilt_range=tilt_range)


def test_unknown_settings_and_bad_files_are_errors(tmp_path):
    with pytest.raises(ValidationError):
        SubtomogramSimulation(out=tmp_path, per_class=1, sigma=1)
    truth = tmp_path / "t.star"
    with pytest.raises(ValidationError, match=r"written as \.mrc"):
        TomogramSimulation(out=tmp_path / "t.tif", truth=truth, per_class=1)
    with pytest.raises(ValidationError, match="16 to 4096"):
        TomogramSimulation(
            out=tmp_path / "t.mrc", truth=truth, per_class=1, shape=(8, 64, 64)
        )
