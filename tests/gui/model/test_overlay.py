"""How picks are shown: color, opacity and size, thresholds, box and mask."""

import mrcfile
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_ectkd.errors import DataError
from napari_ectkd.gui.layers import FILL
from napari_ectkd.gui.overlay import Overlay, scores, shown_class
from napari_ectkd.gui.score_histogram import ScoreHistogram, suggest_cut
from napari_ectkd.io.picks import UNKNOWN, Picks
from napari_ectkd.prediction.mask import Mask

CONFIDENCE = [0.99, 0.6, 0.8, 0.9]


@pytest.fixture
def picks():
    """Return four predictions; the first was put right, the last swept."""
    n = np.nan
    return Picks.create(
        [[50.0, 50, 50], [50, 100, 50], [50, 150, 50], [150, 150, 150]],
        "tomo",
        label=["shell", "", "", ""],
        prediction=["ring", "ring", "shell", "ring"],
        confidence=CONFIDENCE,
        foreign=pd.DataFrame(
            {
                "rlnAutopickFigureOfMerit": [n, 77.0, n, np.log(9)],
                "ectkdDiameter": [120.0, n, n, 60.0],
            }
        ),
    )


@pytest.fixture
def layer(session, picks):
    session.set_picks("tomo", picks)
    return session.layers.points("tomo")


def test_points_are_as_opaque_as_confident_and_as_large_as_their_class(session, layer):
    opaque = [1, *(0.3 + 0.7 * np.array(CONFIDENCE[1:]))]
    np.testing.assert_allclose(layer.border_color[:, 3], opaque, atol=1e-6)
    np.testing.assert_allclose(layer.face_color[:, 3], FILL * np.array(opaque))
    # A diameter that a sweep wrote is its prediction's, not the label's.
    np.testing.assert_allclose(layer.size, [20, 20, 20, 6])
    session.set_overlay(diameters={"shell": 90.0}, is_faded=False)
    np.testing.assert_allclose(layer.size, [9, 20, 9, 6])
    np.testing.assert_array_equal(layer.border_color[:, 3], 1)


def test_a_cut_is_of_one_class_and_never_of_a_label(session, layer, picks):
    session.set_overlay(cuts={"ring": np.log(9) - 1e-3, "shell": 9.0})
    assert layer.features["class"].tolist() == ["shell", UNKNOWN, UNKNOWN, "ring"]
    session.rename_class("ring", "disk")
    assert layer.features["class"].tolist() == ["shell", UNKNOWN, UNKNOWN, "disk"]
    session.remove_class("disk")
    assert session.overlay.cuts == {"shell": 9.0}


def test_a_score_of_another_program_is_not_taken_for_ours(picks):
    found = scores(picks)
    expected = np.log(np.array(CONFIDENCE) / (1 - np.array(CONFIDENCE)))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@given(st.lists(st.floats(0, 1), min_size=1), st.floats(0.01, 0.99))
def test_a_threshold_and_the_same_cut_show_the_same(confidence, least):
    found = np.array(confidence)
    found = found[np.abs(found - least) > 1e-6]
    picks = Picks.create(np.zeros((len(found), 3)), prediction="a", confidence=found)
    cut = float(np.log(least / (1 - least)))
    np.testing.assert_array_equal(
        shown_class(picks, Overlay(min_confidence=least)).words,
        shown_class(picks, Overlay(cuts={"a": cut})).words,
    )


def test_only_picks_inside_a_box_and_a_mask_are_shown(session, layer, tmp_path):
    session.set_overlay(region=np.array([[0.0, 90, 0], [100, 300, 300]]))
    assert layer.shown.tolist() == [False, True, True, False]
    inside = np.zeros((20, 40, 48), np.float32)
    inside[5, 15, 5] = 1
    with mrcfile.new(tmp_path / "mask.mrc") as mrc:
        mrc.set_data(inside)
        mrc.voxel_size = 10
    mask = Mask.open(tmp_path / "mask.mrc", session.tomograms["tomo"])
    session.set_overlay(masks={"tomo": mask})
    assert layer.shown.tolist() == [False, False, True, False]
    session.set_overlay(region=None, masks={})
    assert layer.shown.all()
    with mrcfile.new(tmp_path / "small.mrc") as mrc:
        mrc.set_data(inside[:4])
    with pytest.raises(DataError, match="make the mask from this tomogram"):
        Mask.open(tmp_path / "small.mrc", session.tomograms["tomo"])


def test_diameters_of_classes_are_there_again(session, another_session):
    session.set_overlay(diameters={"ring": 321.0})
    session.add_class("ring")
    assert session.save()
    again = another_session()
    again.open_tomogram(session.tomograms["tomo"].path)
    assert again.overlay.diameters == {"ring": 321.0}
    again.save()


def test_the_suggested_cut_lies_between_two_heaps():
    rng = np.random.default_rng(0)
    heaps = np.concatenate([rng.normal(-2, 0.5, 400), rng.normal(5, 0.5, 300)])
    cut = suggest_cut(heaps)
    # Otsu's cut by definition: the largest variance between the two sides.
    edges = np.linspace(heaps.min(), heaps.max(), 400)[1:-1]
    between = [
        (heaps < e).mean()
        * (heaps >= e).mean()
        * (heaps[heaps < e].mean() - heaps[heaps >= e].mean()) ** 2
        for e in edges
    ]
    best = edges[np.isclose(between, max(between))]
    assert best.min() - 0.1 <= cut <= best.max() + 0.1
    assert suggest_cut(np.full(500, 2.0)) is None


def test_scores_that_come_and_go_cut_nothing(session, qtbot):
    histogram = ScoreHistogram(session)
    qtbot.addWidget(histogram)
    for confidence in ([0.4, 0.45, 0.47], [0.9, 0.95, 0.99]):
        found = Picks.create(
            np.arange(9.0).reshape(3, 3), "tomo", prediction="a", confidence=confidence
        )
        session.set_picks("tomo", found)
        assert session.overlay.cuts == {}
    histogram.set_cut(2.5)
    session.set_picks("tomo", found[:2])
    assert session.overlay.cuts == {"a": 2.5}
