from __future__ import annotations

import subprocess
import sys

import pytest

# A tomogram's specimen has a thickness, however it is imaged.
OPTIONS = {"subtomograms": "--off-center", "tomogram": "--thickness"}


@pytest.mark.parametrize("what", OPTIONS)
def test_a_tilt_series_has_a_heading_of_its_own(what):
    done = subprocess.run(
        [sys.executable, "-m", "napari_ectkd", "simulate", what, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    first, _, last = done.stdout.partition("Tilt series (with --noise projections)")
    for option in ("--noise", "--tilt-range", "--snr", "--seed", OPTIONS[what]):
        assert option in first
        assert f"{option} " not in last
    for option in ("--defocus", "--tilt-scheme", "--mtf", "--structural-noise"):
        assert option in last
        assert option not in first
