"""A sweep says at each position what the model says of the box cropped there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_ectkd.dataset.normalize import tomogram_statistics
from napari_ectkd.errors import ConfigError, DataError
from napari_ectkd.events import Cancel, CancelledError
from napari_ectkd.io.picks import Picks
from napari_ectkd.io.scores import open_scores
from napari_ectkd.io.tomogram import open_tomogram
from napari_ectkd.models.checkpoint import (
    CheckpointInfo,
    Normalization,
    load_checkpoint,
    save_checkpoint,
)
from napari_ectkd.models.registry import build_model
from napari_ectkd.prediction.config import ClassifyConfig, SweepConfig
from napari_ectkd.prediction.picks import classify_picks
from napari_ectkd.prediction.scorers import PatchScorer
from napari_ectkd.prediction.sweep import sweep_tomogram
from napari_ectkd.prediction.tile_search import SweepFiles


@pytest.fixture
def sweep():
    """Drain a sweep; return what was swept and the texts that were noted."""

    def run(model, tomogram, *, scores=None, mask=None, unfinished=None, **settings):
        texts = {}
        config = SweepConfig(**{"device": "cpu"} | settings)
        files = SweepFiles(mask=mask, scores=scores, unfinished=unfinished)
        stream = sweep_tomogram(model, tomogram, config, files, cancel=Cancel())
        while True:
            try:
                event = next(stream)
            except StopIteration as end:
                return end.value, texts
            if event.kind == "noted":
                texts[event.text] = event.is_warning

    return run


def random_model(path, box, seed, classes=("a", "b", "none"), **changes):
    """A checkpoint whose every number is random, batch statistics too."""
    generator = torch.Generator().manual_seed(seed)
    model = build_model("compact", len(classes), box)
    for name, tensor in model.state_dict().items():
        if tensor.dtype.is_floating_point:
            tensor.normal_(0, 0.4, generator=generator)
            if name.endswith("running_var"):
                tensor.abs_().add_(0.3)
    info = CheckpointInfo(
        model="compact",
        classes=list(classes),
        box=box,
        voxel_size=10.0,
        normalization=Normalization(mode="data"),
        trained_by="train",
        **changes,
    )
    save_checkpoint(path, model, info)
    return path


def logits_of_crops(model_path, voxels, tomogram, stride):
    """Each box sliced out by hand and given to the model by itself."""
    model, info = load_checkpoint(model_path)
    statistics = tomogram_statistics(tomogram, info.voxel_size)
    scaled = (voxels.astype(np.float32) - np.float32(statistics.mean)) / np.float32(
        statistics.std
    )
    starts = [range(0, n - info.box + 1, stride) for n in voxels.shape]
    rows = []
    for z in starts[0]:
        for y in starts[1]:
            boxes = [
                scaled[z : z + info.box, y : y + info.box, x : x + info.box]
                for x in starts[2]
            ]
            with torch.no_grad():
                rows.append(model(torch.from_numpy(np.stack(boxes))[:, None]))
    logits = torch.cat(rows).numpy()
    return logits.reshape(*map(len, starts), -1).transpose(3, 0, 1, 2)


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 10_000),
    box=st.integers(23, 30),
    stride=st.sampled_from([1, 2, 4, 8]),
    tile=st.integers(40, 64),
    extra=st.tuples(*[st.integers(0, 13)] * 3),
)
def test_scores_are_those_of_the_crops(
    tmp_path, make_mrc, sweep, seed, box, stride, tile, extra
):
    random = np.random.default_rng(seed)
    if stride == 1:
        extra = [n // 4 for n in extra]
    shape = [box + n for n in extra]
    voxels = random.normal(30, 7, shape).astype(np.float32)
    tomogram = open_tomogram(make_mrc(voxels), is_inverted=False)
    path = random_model(tmp_path / "model.safetensors", box, seed)
    sweep(path, tomogram, scores=tmp_path / "s.zarr", stride=stride, tile=tile)
    scores = open_scores(tmp_path / "s.zarr")
    expected = logits_of_crops(path, voxels, tomogram, stride)
    assert scores.logits.shape == expected.shape
    np.testing.assert_allclose(scores.logits[:], expected, atol=1e-3, rtol=0)
    assert scores.step == stride * 10
    np.testing.assert_array_equal(scores.origin, [box // 2 * 10] * 3)


@pytest.mark.parametrize("tile", [32, 37, 64])
def test_tiles_change_nothing(write_model, opened, sweep, tmp_path, tile):
    whole, _ = sweep(
        write_model(), opened(), scores=tmp_path / "a.zarr", min_confidence=0.2
    )
    parts, _ = sweep(
        write_model(),
        opened(),
        scores=tmp_path / "b.zarr",
        min_confidence=0.2,
        tile=tile,
    )
    first, second = (open_scores(tmp_path / f"{n}.zarr").logits[:] for n in "ab")
    np.testing.assert_allclose(first, second, atol=1e-4)
    assert len(whole.picks) > 3
    np.testing.assert_allclose(whole.picks.positions, parts.picks.positions, atol=1e-2)
    assert list(whole.picks.prediction) == list(parts.picks.prediction)


def test_picks_classified_on_the_grid_get_the_scores_of_the_sweep(
    write_model, opened, sweep, classify, tmp_path
):
    model, tomogram = write_model(), opened()
    sweep(model, tomogram, scores=tmp_path / "s.zarr")
    scores = open_scores(tmp_path / "s.zarr")
    grid = np.argwhere(np.ones(scores.logits.shape[1:], dtype=bool))
    picks = Picks.create(grid * scores.step + scores.origin, "tomogram")
    classified, texts = classify(model, tomogram, picks)
    assert not any("edge" in text for text in texts)
    for index, name in enumerate(scores.classes):
        np.testing.assert_allclose(
            scores.probability(index).ravel(),
            classified.probabilities[name],
            atol=1e-4,
        )
    # One position further, no whole box is left.
    beyond = Picks.create([scores.origin - [10, 0, 0]], "tomogram")
    assert any("edge" in text for text in classify(model, tomogram, beyond)[1])


def test_patches_say_what_the_sweep_says(write_model, opened, sweep, tmp_path):
    swept, _ = sweep(write_model(), opened(), scores=tmp_path / "s.zarr")
    patched, _ = sweep(
        write_model(), opened(), scores=tmp_path / "p.zarr", patches=True
    )
    first, second = (open_scores(tmp_path / f"{n}.zarr").logits[:] for n in "sp")
    np.testing.assert_allclose(first, second, atol=1e-3)
    np.testing.assert_allclose(swept.picks.positions, patched.picks.positions)


def test_a_network_that_sees_its_box_end_offers_patches(tmp_path, opened, sweep):
    torch.manual_seed(0)
    info = CheckpointInfo(
        model="residual_small",
        classes=["a", "none"],
        box=24,
        voxel_size=10.0,
        normalization=Normalization(mode="data"),
        trained_by="train",
    )
    path = tmp_path / "teacher.safetensors"
    save_checkpoint(path, build_model("residual_small", 2, 24), info)
    with pytest.raises(ConfigError, match=r"residual_small cannot be swept.*--patches"):
        sweep_tomogram(path, opened(), SweepConfig(device="cpu"), cancel=Cancel())
    swept, _ = sweep(path, opened(), patches=True, stride=8)
    assert swept.facts["n_positions"] == 3 * 3 * 4


def test_what_cannot_work_is_said_at_once(write_model, opened, make_mrc):
    def error(model, tomogram, **settings):
        config = SweepConfig(**{"device": "cpu"} | settings)
        sweep_tomogram(model, tomogram, config, cancel=Cancel())

    with pytest.raises(ConfigError, match=r"every 4 voxels.*1, 2, 4, not 3"):
        error(write_model(), opened(), stride=3)
    with pytest.raises(ConfigError, match="a diameter for ribosome"):
        error(write_model(), opened(), diameters={"ribosome": 250})
    mode = Normalization(mode="subtomogram")
    with pytest.raises(ConfigError, match="normalized one by one"):
        error(write_model(normalization=mode), opened())
    voxels = np.arange(8000, dtype=np.float32).reshape(20, 20, 20)
    small = open_tomogram(make_mrc(voxels, name="small.mrc"))
    with pytest.raises(DataError, match="24 voxels does not fit into small"):
        error(write_model(), small)


def test_dark_protein_is_swept_as_bright(write_model, opened, sweep):
    bright, _ = sweep(write_model(), opened(), min_confidence=0.2)
    dark, _ = sweep(
        write_model(), opened(sign=-1, is_inverted=True), min_confidence=0.2
    )
    np.testing.assert_allclose(bright.picks.positions, dark.picks.positions, atol=1e-3)
    assert len(bright.picks)


def test_picks_of_a_sweep(write_model, opened, sweep):
    swept, texts = sweep(
        write_model(), opened(), min_confidence=0.2, diameters={"a": 80}
    )
    picks = swept.picks
    assert set(picks.prediction) <= {"a", "b"}
    assert (picks.label == "").all()
    assert set(picks.tomogram) == {"tomogram"}
    table = picks.probabilities
    best = table[["b", "a"]].to_numpy().argmax(axis=1)
    assert [["b", "a"][i] for i in best] == list(picks.prediction)
    np.testing.assert_allclose(table.sum(axis=1), 1)
    p = picks.confidence
    np.testing.assert_allclose(
        p, [table.loc[i, n] for i, n in enumerate(picks.prediction)]
    )
    evidence = picks.foreign["rlnAutopickFigureOfMerit"].to_numpy()
    np.testing.assert_allclose(1 / (1 + np.exp(-evidence)), p, atol=1e-9)
    assert (np.diff(evidence) <= 0).all()
    assert (p >= 0.2).all()
    assert swept.facts["diameters"] == {"a": 80, "b": 120}
    assert any("no diameter known of b: half the box" in text for text in texts)
    diameters = picks.foreign["ectkdDiameter"].to_numpy()
    assert set(zip(picks.prediction, diameters, strict=True)) <= {("a", 80), ("b", 120)}


def test_a_hit_has_the_class_that_its_own_place_has(write_model, opened, sweep):
    """What `ectkd classify` says there; and of the scored position without it."""
    tomogram, model = opened(), write_model()
    picks = sweep(model, tomogram, min_confidence=0.3)[0].picks
    assert len(picks) > 2
    stream = classify_picks(
        model, tomogram, picks, ClassifyConfig(device="cpu"), cancel=Cancel()
    )
    while True:
        try:
            next(stream)
        except StopIteration as end:
            expected = end.value.probabilities
            break
    found = picks.probabilities[expected.columns]
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert (picks.confidence >= 0.3).all()
    once = sweep(model, tomogram, min_confidence=0.3, second_look=False)[0].picks
    assert not np.allclose(
        np.sort(once.confidence)[-3:], np.sort(picks.confidence)[-3:], atol=1e-3
    )


def test_border_and_number_are_kept(write_model, opened, sweep):
    tomogram = opened()
    all_picks = sweep(write_model(), tomogram, min_confidence=0)[0].picks
    first = sweep(write_model(), tomogram, min_confidence=0, max_picks=2)[0].picks
    np.testing.assert_array_equal(first.positions, all_picks.positions[:2])
    border = float(np.median(all_picks.positions.min(axis=1)))
    inner = sweep(write_model(), tomogram, min_confidence=0, border=border)[0].picks
    assert 0 < len(inner) < len(all_picks)
    assert (inner.positions >= border).all()
    assert (inner.positions <= tomogram.extent - border).all()


def test_picks_lie_in_the_mask(write_model, opened, sweep, make_mrc, tmp_path):
    tomogram = opened()
    voxels = np.zeros(tomogram.shape, dtype=np.int8)
    voxels[:, :, :24] = 1
    mask = make_mrc(voxels, name="mask.mrc")
    everywhere = sweep(write_model(), tomogram, min_confidence=0.1, distance=0)[0].picks
    inside = sweep(
        write_model(),
        tomogram,
        mask=mask,
        scores=tmp_path / "s.zarr",
        min_confidence=0.1,
        distance=0,
        tile=32,
    )[0].picks
    expected = everywhere.positions[np.rint(everywhere.positions[:, 2] / 10) < 24]
    assert 0 < len(expected) < len(everywhere)
    np.testing.assert_allclose(inside.positions, expected, atol=1e-3)
    # Tiles outside the mask are not computed at all.
    assert np.isnan(open_scores(tmp_path / "s.zarr").logits[:]).any()
    wrong = make_mrc(voxels[:-1], name="wrong.mrc")
    with pytest.raises(DataError, match=r"mask wrong.mrc has 39 × 44 × 48 voxels"):
        sweep(write_model(), tomogram, mask=wrong)


def test_an_interrupted_sweep_goes_on(write_model, opened, sweep, tmp_path):
    model, tomogram = write_model(), opened()
    whole, _ = sweep(model, tomogram, min_confidence=0.2, scores=tmp_path / "w.zarr")
    files = SweepFiles(
        scores=tmp_path / "s.zarr", unfinished=tmp_path / "unfinished.npz"
    )
    config = SweepConfig(device="cpu", min_confidence=0.2, tile=32)
    cancel = Cancel()
    stream = sweep_tomogram(model, tomogram, config, files, cancel=cancel)
    for event in stream:
        if event.kind == "progress" and event.done > event.total / 3:
            break
    cancel.request()
    with pytest.raises(CancelledError):
        next(stream)
    assert files.unfinished.exists()
    assert not files.scores.exists()
    swept, texts = sweep(
        model,
        tomogram,
        scores=files.scores,
        unfinished=files.unfinished,
        min_confidence=0.2,
        tile=32,
    )
    assert any("going on where it stopped" in text for text in texts)
    np.testing.assert_allclose(swept.picks.positions, whole.picks.positions, atol=1e-2)
    np.testing.assert_allclose(
        open_scores(files.scores).logits[:],
        open_scores(tmp_path / "w.zarr").logits[:],
        atol=1e-4,
    )
    assert not files.unfinished.exists()


def test_what_other_settings_left_behind_does_not_count(
    write_model, opened, sweep, tmp_path
):
    kept = tmp_path / "unfinished.npz"
    stream = sweep_tomogram(
        write_model(),
        opened(),
        SweepConfig(device="cpu", tile=32),
        SweepFiles(unfinished=kept),
        cancel=Cancel(),
    )
    next(e for e in stream if e.kind == "progress")
    stream.close()
    assert kept.exists()
    _, texts = sweep(write_model(), opened(), unfinished=kept, min_confidence=0.2)
    assert not any("going on" in text for text in texts)
    assert not kept.exists()


def test_a_tile_that_is_too_large_is_halved(
    write_model, opened, sweep, monkeypatch, tmp_path
):
    from napari_ectkd.prediction import tile_work
    from napari_ectkd.prediction.scorers import SweepScorer

    monkeypatch.setattr(tile_work, "FEWEST_POSITIONS", 2)
    expected, _ = sweep(write_model(), opened(), min_confidence=0.2)
    score = SweepScorer.__call__

    def with_little_memory(self, voxels):
        if voxels.size > 39**3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 bytes")
        return score(self, voxels)

    monkeypatch.setattr(SweepScorer, "__call__", with_little_memory)
    found, texts = sweep(write_model(), opened(), min_confidence=0.2)
    assert any("smaller tiles" in text for text in texts)
    np.testing.assert_allclose(
        found.picks.positions, expected.picks.positions, atol=1e-2
    )

    def with_none(self, voxels):
        raise MemoryError

    monkeypatch.setattr(SweepScorer, "__call__", with_none)
    with pytest.raises(DataError, match="out of memory even for a small part"):
        sweep(write_model(), opened())


def test_boxes_that_do_not_fit_at_once_are_fewer(write_model, opened, monkeypatch):
    model, info = load_checkpoint(write_model())
    voxels = np.random.default_rng(0).normal(size=(30, 30, 30)).astype(np.float32)
    cpu = torch.device("cpu")
    expected = PatchScorer(model, info, 2, cpu, None, 64)(voxels)
    score = type(model).forward
    asked = []

    def with_little_memory(self, volumes):
        asked.append(len(volumes))
        if len(volumes) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return score(self, volumes)

    monkeypatch.setattr(type(model), "forward", with_little_memory)
    model, _ = load_checkpoint(write_model())
    found = PatchScorer(model, info, 2, cpu, None, 16)(voxels)
    torch.testing.assert_close(found, expected)
    assert asked[:3] == [16, 8, 4]
    assert set(asked[3:]) == {4}


def test_apple_s_gpus_are_used_by_one_thread(monkeypatch):
    from napari_ectkd.prediction.tile_work import n_workers

    assert n_workers(torch.device("mps")) == 1
    assert n_workers(torch.device("cuda:0")) == 2


def test_a_bug_in_a_tile_is_no_want_of_memory(write_model, opened, sweep, monkeypatch):
    from napari_ectkd.prediction.scorers import SweepScorer

    def broken(self, voxels):
        raise RuntimeError("a bug")

    monkeypatch.setattr(SweepScorer, "__call__", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        sweep(write_model(), opened())


def test_another_voxel_size_is_resampled_once(write_model, make_mrc, sweep, voxels):
    from scipy import ndimage

    fine = ndimage.zoom(voxels, 2, order=1, grid_mode=True, mode="nearest")
    tomogram = open_tomogram(make_mrc(fine, 5.0, name="fine.mrc"), is_inverted=False)
    swept, texts = sweep(write_model(), tomogram, min_confidence=0)
    assert any("the whole tomogram is resampled once" in text for text in texts)
    assert swept.facts["n_positions"] == np.prod(
        [(n - 24) // 4 + 1 for n in voxels.shape]
    )
    assert (swept.picks.positions <= tomogram.extent).all()


def test_without_none_there_is_a_warning(write_model, opened, sweep):
    _, texts = sweep(write_model(classes=("a", "b", "c")), opened())
    assert texts[next(t for t in texts if "no class none" in t)]
