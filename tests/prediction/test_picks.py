import mrcfile
import numpy as np
import pytest
import torch
from scipy.special import softmax

from napari_ectkd.errors import DataError, FormatError
from napari_ectkd.events import Cancel, CancelledError
from napari_ectkd.io.picks import Picks
from napari_ectkd.io.star import read_picks, write_picks
from napari_ectkd.io.tomogram import open_tomogram
from napari_ectkd.models.checkpoint import Calibration, Normalization, load_checkpoint
from napari_ectkd.prediction.config import ClassifyConfig
from napari_ectkd.prediction.picks import classify_picks


def crops(voxels, places):
    low = np.rint(places).astype(int) - 12
    return np.stack([voxels[z : z + 24, y : y + 24, x : x + 24] for z, y, x in low])


def scores(model, volumes):
    with torch.no_grad():
        logits = model(torch.from_numpy(volumes.astype(np.float32))[:, None])
    return softmax(logits.numpy().astype(np.float64), axis=1)


def test_predictions_are_what_the_model_says_of_the_crops(
    classify, write_model, opened, voxels, picks
):
    path = write_model(normalization=Normalization(mode="subtomogram"))
    found, texts = classify(path, opened(), picks, batch_size=3)
    raw = crops(voxels, picks.positions / 10)
    raw = (raw - raw.mean((1, 2, 3), keepdims=True)) / raw.std((1, 2, 3), keepdims=True)
    expected = scores(load_checkpoint(path)[0], raw)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-4)
    assert list(found.probabilities) == ["b", "a", "none"]
    names = np.array(["b", "a", "none"])[expected.argmax(axis=1)]
    assert list(found.prediction) == list(names)
    np.testing.assert_allclose(found.confidence, expected.max(axis=1), atol=1e-4)
    assert np.ptp(expected, axis=0).max() > 0.01  # picks differ
    assert any("one by one" in text for text in texts)


def test_by_default_voxels_are_scaled_by_the_tomogram(
    classify, write_model, opened, voxels, picks
):
    path = write_model()
    found, texts = classify(path, opened(), picks)
    low, high = np.percentile(voxels, [1, 99])
    clipped = np.clip(voxels, low, high)
    scaled = (crops(voxels, picks.positions / 10) - clipped.mean()) / clipped.std()
    expected = scores(load_checkpoint(path)[0], scaled)
    np.testing.assert_allclose(found.probabilities, expected, atol=0.03)
    assert not texts


def test_what_people_and_other_programs_said_stays(
    classify, write_model, opened, picks, tmp_path
):
    found, _ = classify(write_model(), opened(), picks)
    write_picks(tmp_path / "classes.star", found, 10.0)
    for back in (found, read_picks(tmp_path / "classes.star")):
        assert list(back.label) == ["a", "", "none", ""]
        assert list(back.pick_id) == [11, 7, 30, 4]
        assert list(back.foreign["rlnClassNumber"]) == [3, 1, 4, 1]
        np.testing.assert_allclose(back.positions, picks.positions, atol=1e-3)
        assert (back.prediction != "").all()
    assert (picks.prediction == "").all()  # what went in is not changed


def test_picks_near_the_edge_get_no_prediction_and_are_said(
    classify, write_model, opened, picks
):
    places = np.insert(picks.positions, [0, 2], [[30.0, 200, 200], [200, 200, 470]], 0)
    every = Picks.create(places, "tomogram")
    found, texts = classify(write_model(), opened(), every)
    alone, _ = classify(write_model(), opened(), picks)
    inner, edge = [1, 2, 4, 5], [0, 3]
    assert list(found.prediction[inner]) == list(alone.prediction)
    np.testing.assert_allclose(
        found.probabilities.iloc[inner], alone.probabilities, atol=1e-5
    )
    assert list(found.prediction[edge]) == ["", ""]
    assert np.isnan(found.confidence[edge]).all()
    assert np.isnan(found.probabilities.to_numpy()[edge]).all()
    [text] = [t for t in texts if "2 of 6 picks" in t]
    assert texts[text]


@pytest.mark.parametrize("places", [np.zeros((0, 3)), np.zeros((2, 3))])
def test_nothing_to_classify_is_no_crash(classify, write_model, opened, places):
    found, _ = classify(write_model(), opened(), Picks.create(places, "tomogram"))
    assert len(found) == len(places)
    assert (found.prediction == "").all()
    assert list(found.probabilities) == ["b", "a", "none"]


def test_a_dark_copy_gets_the_same_predictions(classify, write_model, opened, picks):
    path = write_model()
    bright, _ = classify(path, opened(), picks)
    dark, _ = classify(path, opened(sign=-1, is_inverted=True), picks)
    wrong, _ = classify(path, opened(sign=-1, is_inverted=False), picks)
    assert list(dark.prediction) == list(bright.prediction)
    np.testing.assert_allclose(dark.probabilities, bright.probabilities, atol=1e-5)
    assert not np.allclose(wrong.probabilities, bright.probabilities, atol=1e-2)


def test_a_guess_of_the_contrast_is_a_warning(classify, write_model, opened, picks):
    _, texts = classify(write_model(), opened(is_inverted=None), picks)
    [text] = [t for t in texts if "guess" in t]
    assert texts[text]


def test_unsure_predictions_become_unknown(classify, write_model, opened, picks):
    path = write_model()
    plain, _ = classify(path, opened(), picks)
    limit = float(np.median(plain.confidence))
    strict, _ = classify(path, opened(), picks, min_confidence=limit)
    is_unsure = plain.confidence < limit
    assert 0 < is_unsure.sum() < 4
    assert (strict.prediction[is_unsure] == "unknown").all()
    assert list(strict.prediction[~is_unsure]) == list(plain.prediction[~is_unsure])
    np.testing.assert_array_equal(strict.confidence, plain.confidence)


def test_the_models_calibration_is_used(classify, write_model, opened, picks):
    plain, _ = classify(write_model(), opened(), picks)
    limit = 0.5 * (plain.confidence.min() + plain.confidence.max())
    facts = {"n": 9, "error_before": 0, "error_after": 0, "precision": 1, "kept": 1}
    calibration = Calibration(temperature=2, min_confidence=limit, **facts)
    path = write_model(calibration=calibration)
    softer, _ = classify(path, opened(), picks)
    roots = np.sqrt(plain.probabilities)  # half the logits, by definition of softmax
    expected = roots.div(roots.sum(axis=1), axis=0)
    np.testing.assert_allclose(softer.probabilities, expected, rtol=1e-5)
    is_unsure = softer.confidence < limit
    assert is_unsure.any()
    assert (softer.prediction[is_unsure] == "unknown").all()
    assert (softer.prediction[~is_unsure] != "unknown").all()
    asked, _ = classify(path, opened(), picks, min_confidence=0)
    assert list(asked.prediction) == list(plain.prediction)


def test_another_voxel_size_is_said_and_resampled(
    classify, write_model, make_mrc, picks
):
    # The same smooth scene at 10 and at 8 Å.
    def scene(step):
        axes = [np.arange(0, n * 10, step) for n in (40, 44, 48)]
        z, y, x = np.meshgrid(*axes, indexing="ij")
        volume = np.zeros(z.shape)
        for place in picks.positions:
            square = sum((a - p) ** 2 for a, p in zip((z, y, x), place, strict=True))
            volume += np.exp(-square / 2 / 40**2)
        return volume.astype(np.float32)

    path = write_model()
    tomograms = [
        open_tomogram(
            make_mrc(scene(step), step, name=f"{step}/tomogram.mrc"), is_inverted=False
        )
        for step in (10.0, 8.0, 13.0)
    ]
    same, none = classify(path, tomograms[0], picks[3:])
    finer, said = classify(path, tomograms[1], picks[3:])
    _, warned = classify(path, tomograms[2], picks[3:])
    assert not none
    [text] = said
    assert "8 Å" in text
    assert "10 Å" in text
    assert "resampled" in text
    assert not said[text]
    assert any("detail" in text and warned[text] for text in warned)
    np.testing.assert_allclose(finer.probabilities, same.probabilities, atol=0.05)


def test_another_tilt_range_is_a_warning(classify, write_model, opened, picks):
    _, texts = classify(write_model(), opened(tilt_range=(-40, 40)), picks)
    [text] = texts
    assert "another missing wedge" in text
    assert texts[text]
    assert not classify(write_model(), opened(tilt_range=(-58, 61)), picks)[1]


def test_picks_of_another_tomogram_are_an_error(classify, write_model, opened, picks):
    mixed = Picks.create(picks.positions, ["tomogram", "else", "tomogram", "else"])
    with pytest.raises(DataError, match="'else' cannot be classified in 'tomogram'"):
        classify(write_model(), opened(), mixed)
    nameless = Picks.create(picks.positions, "")
    assert (classify(write_model(), opened(), nameless)[0].prediction != "").all()


def test_a_box_larger_than_the_tomogram_is_an_error(
    classify, write_model, opened, picks
):
    with pytest.raises(DataError, match="larger than tomogram"):
        classify(write_model(box=42), opened(), picks)


def test_nan_voxels_are_an_error(classify, write_model, make_mrc, voxels, picks):
    path = make_mrc(voxels)
    with mrcfile.mmap(path, mode="r+") as mrc:
        mrc.data[20, 30, 25] = np.nan
    tomogram = open_tomogram(path, is_inverted=False)
    with pytest.raises(FormatError, match="z 20, y 30, x 25"):
        classify(write_model(), tomogram, picks)


def test_it_can_be_cancelled(write_model, opened, picks):
    cancel = Cancel()
    stream = classify_picks(
        write_model(), opened(), picks, ClassifyConfig(batch_size=1), cancel=cancel
    )
    cancel.request()
    with pytest.raises(CancelledError):
        list(stream)


def test_scores_are_averaged_over_the_rotations_that_keep_the_wedge(
    classify, write_model, opened, voxels, picks
):
    path = write_model(
        normalization=Normalization(mode="subtomogram"), tilt_range=(-60, 60)
    )
    found, _ = classify(path, opened(), picks, average_rotations=True)
    raw = crops(voxels, picks.positions / 10)
    raw = (raw - raw.mean((1, 2, 3), keepdims=True)) / raw.std((1, 2, 3), keepdims=True)
    model, _ = load_checkpoint(path)
    # About the center 12 of 24 voxels, plane i goes to −i: 180° about an axis reverses
    # the two others.
    mirrored = -np.arange(24)
    turned = [raw]
    turned.append(raw[:, mirrored][:, :, mirrored])
    turned.append(raw[:, mirrored][..., mirrored])
    turned.append(raw[:, :, mirrored][..., mirrored])
    with torch.no_grad():
        views = [
            model(torch.from_numpy(v.astype(np.float32))[:, None]).numpy()
            for v in turned
        ]
    expected = softmax(np.mean(views, axis=0).astype(np.float64), axis=1)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-4)
    assert np.abs(softmax(views[0], axis=1) - expected).max() > 1e-3
