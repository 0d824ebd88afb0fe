from __future__ import annotations

import mrcfile
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from napari_ectkd.simulation.config import SubtomogramSimulation, TomogramSimulation
from napari_ectkd.simulation.imaging import WedgeImaging, drawn, make_imaging
from napari_ectkd.simulation.projection_imaging import ProjectionImaging
from napari_ectkd.simulation.tilt import wedge_mask

SPREADS = {
    "tilt_range_spread": 10,
    "defocus": 3,
    "defocus_spread": 2,
    "dose_spread": 1,
    "ctf": "random",
}


def config(tmp_path, **settings):
    return SubtomogramSimulation(out=tmp_path / "set", per_class=1, **settings)


def test_every_mode_has_its_imaging(tmp_path):
    for noise in ("common", "per-particle"):
        assert isinstance(make_imaging(config(tmp_path, noise=noise)), WedgeImaging)
    made = make_imaging(config(tmp_path, noise="projections"))
    assert isinstance(made, ProjectionImaging)


def test_draws_fill_their_ranges(tmp_path):
    random = np.random.default_rng(0)
    asked = config(tmp_path, noise="projections", **SPREADS)
    draws = [drawn(asked, random) for _ in range(300)]
    defoci = np.array([d.defocus for d in draws])
    assert 1 <= defoci.min() < 1.1
    assert 4.9 < defoci.max() <= 5
    lows = np.array([d.tilt_range[0] for d in draws])
    assert -70 <= lows.min() < -69
    assert -51 < lows.max() <= -50
    doses = np.array([d.dose for d in draws])
    assert doses.mean() == pytest.approx(3, abs=0.15)
    assert {d.ctf for d in draws} == {"plain", "phase-flipped", "none"}
    assert all(d.tilt_range_spread == d.defocus_spread == 0 for d in draws)


def test_drawn_settings_are_possible(tmp_path):
    asked = config(
        tmp_path,
        noise="projections",
        tilt_range=(-78, -60),
        tilt_range_spread=45,
        defocus=1,
        defocus_spread=20,
        dose_spread=50,
    )
    random = np.random.default_rng(1)
    for _ in range(50):
        values = drawn(asked, random).model_dump()
        SubtomogramSimulation.model_validate(values)  # no ConfigError
        make_imaging(drawn(asked, random)).signal(torch.zeros(1, 12, 12, 12))


def test_nothing_is_drawn_unasked(tmp_path):
    asked = config(tmp_path, noise="projections", **(SPREADS | {"ctf": "plain"}))
    volume = torch.zeros(1, 16, 16, 16)
    volume[0, 6:9, 7, 8] = 1
    fixed = [make_imaging(asked).signal(volume) for _ in range(2)]
    assert torch.equal(*fixed)
    by_seed = [
        make_imaging(asked, np.random.default_rng(seed)).signal(volume)
        for seed in (0, 0, 1)
    ]
    assert torch.equal(by_seed[0], by_seed[1])
    assert not torch.equal(by_seed[0], by_seed[2])


def test_the_wedge_is_drawn_too(tmp_path):
    asked = config(tmp_path, tilt_range_spread=20)
    volume = torch.randn(1, 16, 16, 16)
    first, last = (
        make_imaging(asked, np.random.default_rng(seed)).signal(volume)
        for seed in (0, 1)
    )
    assert not torch.equal(first, last)


def test_a_tomogram_is_imaged_by_one_draw(tmp_path, simulate):
    volumes = {}
    for name, spread in (("none", 0), ("some", 20), ("same", 20)):
        asked = TomogramSimulation(
            out=tmp_path / f"{name}.mrc",
            truth=tmp_path / f"{name}.star",
            per_class=1,
            shape=(48, 80, 96),
            snr=1e8,
            tilt_range_spread=spread,
        )
        simulate(asked)
        volumes[name] = mrcfile.read(asked.out)
    assert np.array_equal(volumes["some"], volumes["same"])
    seen = {n: np.abs(np.fft.rfftn(v)) > 1e-2 for n, v in volumes.items()}
    drawn_range = drawn(asked, np.random.default_rng([asked.seed, 1])).tilt_range
    for name, tilt_range in (("none", (-60, 60)), ("some", drawn_range)):
        mask = wedge_mask((48, 80, 96), tilt_range)
        assert (seen[name] & ~mask).mean() < 0.001
        assert (seen[name] & mask).sum() > 0.9 * mask.sum()


def test_impossible_projections_are_errors(tmp_path):
    with pytest.raises(ValidationError, match="within -80 to 80"):
        config(tmp_path, noise="projections", tilt_range=(-90, 90))
    with pytest.raises(ValidationError, match="smaller than one step"):
        config(tmp_path, noise="projections", tilt_range=(0, 2))
    with pytest.raises(ValidationError, match="noise"):
        TomogramSimulation(
            out=tmp_path / "t.mrc",
            truth=tmp_path / "t.star",
            per_class=1,
            noise="per-particle",
        )
