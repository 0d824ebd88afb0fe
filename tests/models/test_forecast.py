import json
from pathlib import Path

from napari_ectkd.models.cost import count_parameters, forecast
from napari_ectkd.models.registry import build_model

MEASURED = Path(__file__).parents[2] / "benchmarks" / "results" / "models-box40.json"


def test_a_forecast_counts_by_hand():
    # DSRF3D-v2 at box 8: 32 channels at 8³ are its widest, in and out of a ReLU.
    found = forecast("dsrf3d_v2", 5, 8)
    assert found.widest_bytes == 4 * 2 * 32 * 8**3
    assert found.parameters == count_parameters(build_model("dsrf3d_v2", 5, 8))
    assert found.using_bytes(3) == 4 * found.parameters + 3 * found.widest_bytes


def test_forecast_speeds_are_about_those_measured():
    rows = json.loads(MEASURED.read_text())["rows"]
    times = {row["name"]: row["ms_float32"] for row in rows}
    slowest = forecast("dsrf3d_v2", 23, 40).effort
    for name in ("residual_small", "residual", "student1", "student3"):
        foreseen = slowest / forecast(name, 23, 40).effort
        measured = times["dsrf3d_v2"] / times[name]
        assert 0.5 < foreseen / measured < 2
