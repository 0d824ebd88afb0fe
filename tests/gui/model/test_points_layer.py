"""A layer of picks is to napari a plain points layer, but for its symbols."""

import numpy as np
import pytest
from napari.layers import Points

from napari_ectkd.gui.points_layer import PicksLayer


@pytest.fixture
def places():
    return np.random.default_rng(0).uniform(0, 40, (5, 3))


def test_it_does_what_a_plain_layer_does(places):
    ours, plain = PicksLayer(places, symbol="ring"), Points(places, symbol="ring")
    for layer in (ours, plain):
        layer.add([[1.0, 2, 3]])
        layer.add([[1.0, 2, 3], [4.0, 5, 6]])
        layer.remove([0, 6])
        layer.data = np.vstack([layer.data, places])
    assert [str(symbol) for symbol in ours.symbol] == [
        str(symbol) for symbol in plain.symbol
    ]
    np.testing.assert_array_equal(ours.data, plain.data)
    np.testing.assert_array_equal(ours.size, plain.size)


def test_points_may_have_symbols_of_their_own(places):
    layer = PicksLayer(places)
    layer.symbol = ["disc", "ring", "disc", "star", "x"]
    layer.current_symbol = "square"
    layer.add([[1.0, 2, 3]])
    words = [str(symbol) for symbol in layer.symbol]
    assert words == ["disc", "ring", "disc", "star", "x", "square"]
    layer.symbol = np.array(["ring"] * 6)
    assert {str(symbol) for symbol in layer.symbol} == {"ring"}
    with pytest.raises(ValueError, match="same length"):
        layer.symbol = np.array(["ring"] * 4)
    with pytest.raises((KeyError, ValueError), match="potato"):
        layer.symbol = np.array(["potato"] * 6)


def test_napari_finds_its_keys_help_and_kind(session):
    viewer = session.viewer
    layer = session.layers.points("tomo")
    assert type(layer) is PicksLayer
    assert layer.as_layer_data_tuple()[2] == "points"
    viewer.layers.selection.active = layer
    layer.mode = "select"
    plain = viewer.add_points(ndim=3)
    plain.mode = "select"
    assert layer.help == plain.help != ""
