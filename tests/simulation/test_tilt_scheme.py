from __future__ import annotations

import numpy as np
import pytest

from napari_ectkd.simulation.imaging_config import ImagingConfig
from napari_ectkd.simulation.tilt_scheme import (
    dose_symmetric,
    tilt_angles,
    tilt_series,
)


@pytest.mark.parametrize(
    ("tilt_range", "step", "angles"),
    [
        ((-60, 60), 30, [-60, -30, 0, 30, 60]),
        ((-40, 60), 20, [-40, -20, 0, 20, 40, 60]),
        # Multiples of 20 would leave out one tilt that fits.
        ((-50, 50), 20, [-50, -30, -10, 10, 30, 50]),
        ((-7, 7), 3, [-6, -3, 0, 3, 6]),
        ((10, 20), 5, [10, 15, 20]),
    ],
)
def test_angles_of_a_range(tilt_range, step, angles):
    np.testing.assert_allclose(tilt_angles(tilt_range, step), angles, atol=1e-9)


def test_dose_symmetric_order():
    angles = dose_symmetric(np.arange(-12, 13, 3.0))
    assert angles.tolist() == [0, 3, -3, -6, 6, 9, -9, -12, 12]


def test_dose_symmetric_order_of_uneven_sides():
    assert dose_symmetric(np.arange(-3, 16, 3.0)).tolist() == [0, 3, -3, 6, 9, 12, 15]
    assert dose_symmetric(np.array([10.0, 15, 20])).tolist() == [10, 15, 20]


def test_exposures_add_up_and_go_on_in_the_second_series():
    config = ImagingConfig(
        noise="projections",
        tilt_range=(-6, 6),
        tilt_scheme="continuous",
        dose=2,
        dual_axis=True,
    )
    first, second = tilt_series(config)
    assert (first.axis, second.axis) == ("y", "x")
    assert first.angles_deg.tolist() == [-6, -3, 0, 3, 6]
    assert first.exposures.tolist() == [1, 3, 5, 7, 9]
    assert second.exposures.tolist() == [11, 13, 15, 17, 19]


def test_zero_tilt_endures_least_when_dose_symmetric():
    (series,) = tilt_series(ImagingConfig(noise="projections"))
    by_angle = dict(zip(series.angles_deg, series.exposures, strict=True))
    assert len(by_angle) == 41
    assert min(by_angle, key=by_angle.__getitem__) == 0
    assert {abs(a) for a in sorted(by_angle, key=by_angle.__getitem__)[-2:]} == {60}
