import numpy as np
import pytest
from napari.layers import Points

from napari_ectkd.gui.layers import (
    picks_layer_data,
    picks_of_layer_data,
    take_picks,
)
from napari_ectkd.gui.overlay import Overlay, shown_class
from napari_ectkd.gui.palette import Palette
from napari_ectkd.io.picks import UNKNOWN, Picks


@pytest.fixture
def layer(session, some_picks):
    session.set_picks("tomo", some_picks())
    return session.layers.points("tomo")


def assert_same(found, expected):
    np.testing.assert_allclose(found.positions, expected.positions, atol=1e-3)
    for name in ("label", "prediction", "pick_id", "tomogram"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    np.testing.assert_allclose(found.confidence, expected.confidence)
    np.testing.assert_allclose(found.angles, expected.angles)
    assert found.probabilities.equals(expected.probabilities)
    assert found.foreign.infer_objects().equals(expected.foreign)


def test_picks_come_back_from_a_layer_as_they_went_in(session, layer, some_picks):
    assert_same(take_picks(layer, session.tomograms["tomo"]), some_picks())


def test_layers_are_in_voxels_with_scale_and_units(session, layer, some_picks):
    np.testing.assert_allclose(layer.data * 10, some_picks().positions)
    np.testing.assert_allclose(layer.scale, 10)
    assert [str(unit) for unit in session.viewer.layers.extent.units] == [
        "angstrom"
    ] * 3
    assert layer.size[0] == session.diameter / 10


def test_a_moved_pick_keeps_all_but_its_position(session, layer, some_picks):
    data = layer.data.copy()
    data[1] += 2
    layer.data = data
    found = session.picks("tomo")
    expected = some_picks()
    np.testing.assert_allclose(found.positions[1], expected.positions[1] + 20)
    np.testing.assert_array_equal(
        found.positions[[0, 2, 3]], expected.positions[[0, 2, 3]]
    )
    np.testing.assert_array_equal(found.pick_id, expected.pick_id)
    assert found.foreign.equals(expected.foreign)


def test_deleting_a_pick_takes_its_row_and_no_other(session, layer, some_picks):
    layer.selected_data = {1}
    layer.remove_selected()
    assert_same(session.picks("tomo"), some_picks()[[0, 2, 3]])


def test_an_added_pick_is_new_whatever_was_selected(session, layer):
    session.set_new_label("none")
    layer.selected_data = {0}
    layer.mode = "add"
    layer.add([5.0, 6.0, 7.0])
    found = session.picks("tomo")
    assert len(found) == 5
    assert found.label[4] == "none"
    assert found.prediction[4] == ""
    assert np.isnan(found.confidence[4])
    assert found.pick_id[4] not in found.pick_id[:4]
    np.testing.assert_allclose(found.positions[4], [50, 60, 70])


def test_a_pasted_pick_keeps_its_label_and_gets_an_id(session, layer):
    # Points of a copy come with the features of the first ones, ids included.
    features = layer.features.iloc[[0, 1, 2, 3, 0, 2]].reset_index(drop=True)
    session.layers._is_busy = True
    layer.data = layer.data[[0, 1, 2, 3, 0, 2]]
    layer.features = features
    session.layers._is_busy = False
    found = take_picks(layer, session.tomograms["tomo"])
    assert found.label.tolist() == ["ring", "", "none", "", "ring", "none"]
    assert len(set(found.pick_id)) == 6
    assert found.pick_id[:4].tolist() == [5, 8, 11, 14]
    assert found.prediction[4:].tolist() == ["", ""]
    np.testing.assert_allclose(found.positions[4], found.positions[0])


def test_whole_numbers_stay_whole_beside_a_new_pick(session, layer):
    layer.add([1.0, 2.0, 3.0])
    column = session.picks("tomo").foreign["rlnOpticsGroup"]
    assert [str(value) for value in column] == ["1", "1", "1", "1", "nan"]
    layer.selected_data = {4}
    layer.remove_selected()
    assert session.picks("tomo").foreign["rlnOpticsGroup"].dtype == np.int64


def test_a_saved_layer_keeps_each_row_with_its_pick(some_picks):
    from napari.layers import Points

    data, options = picks_layer_data(some_picks(), "tomo")
    layer = Points(data, **options)
    layer.add([1.0, 2.0, 3.0])
    layer.selected_data = {1}
    layer.remove_selected()
    found, size = picks_of_layer_data(layer.data, layer.as_layer_data_tuple()[1])
    assert_same(found[:3], some_picks()[[0, 2, 3]])
    assert found.pick_id[3] not in some_picks().pick_id
    assert found.label[3] == ""
    assert size == 1


def test_the_first_pick_of_all_has_no_label(session):
    session.layers.points("tomo").add([5.0, 6.0, 7.0])
    assert session.picks("tomo").label.tolist() == [""]


def test_points_have_the_colors_of_their_classes(session, layer):
    palette = session.palette
    for name, color in zip(layer.features["class"], layer.border_color, strict=True):
        text = palette.color(name).lstrip("#")
        rgb = [int(text[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        np.testing.assert_allclose(color[:3], rgb, atol=1e-6)


def test_hidden_classes_and_unsure_predictions(session, layer, some_picks):
    picks = some_picks()
    session.set_overlay(min_confidence=1.0)
    names = shown_class(picks, Overlay(min_confidence=1.0)).words
    assert names.tolist() == ["ring", UNKNOWN, "none", UNKNOWN]
    assert list(layer.features["class"]) == names.tolist()
    session.set_hidden({UNKNOWN})
    assert layer.shown.tolist() == [True, False, True, False]
    session.set_overlay(min_confidence=0.0)
    assert layer.shown.all()


def test_colors_follow_the_order_of_the_classes():
    first, second = Palette(), Palette()
    names = [f"class {i}" for i in range(30)]
    colors = [first.color(name) for name in names]
    assert [second.color(name) for name in names] == colors
    assert len(set(colors)) == 30
    assert [first.color(name) for name in reversed(names)] == colors[::-1]


def test_picks_of_several_tomograms_keep_them_in_a_plain_layer():
    places = [[10.0, 20, 30], [40.0, 50, 60], [70.0, 80, 90]]
    picks = Picks.create(places, ["a", "b", ""], label="ring")
    data, options = picks_layer_data(picks, "joint")
    layer = Points(data, **options)
    found, _ = picks_of_layer_data(layer.data, layer.as_layer_data_tuple()[1])
    assert found.tomogram.tolist() == ["a", "b", "joint"]
    layer.add([[1.0, 2, 3]])
    found, _ = picks_of_layer_data(layer.data, layer.as_layer_data_tuple()[1])
    assert found.tomogram.tolist() == ["a", "b", "joint", "joint"]


def test_a_file_has_the_colors_that_a_session_gives_its_classes(session):
    picks = Picks.create(np.eye(3) * 50, "tomo", label=["shell", "ring", "none"])
    _, options = picks_layer_data(picks, "truth")
    session.set_picks("tomo", picks)
    np.testing.assert_allclose(
        options["border_color"], session.layers.points("tomo").border_color, atol=1e-6
    )
