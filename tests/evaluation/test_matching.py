import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_ectkd.errors import ConfigError, DataError
from napari_ectkd.evaluation.matching import match_picks
from napari_ectkd.io.picks import Picks

coordinate = st.integers(0, 12).map(float)


def positions(max_size=12):
    return st.integers(0, max_size).flatmap(
        lambda n: arrays(np.float64, (n, 3), elements=coordinate)
    )


def test_each_particle_takes_the_nearest_pick_and_only_one():
    truth = Picks.create([[0, 0, 0], [0, 0, 100]], "t")
    found = Picks.create([[0, 0, 9], [0, 0, 4], [0, 0, 300]], "t")
    pairs, misses, false_alarms = match_picks(found, truth, 10)
    assert pairs.tolist() == [[1, 0]]
    assert misses.tolist() == [1]
    assert false_alarms.tolist() == [0, 2]


def test_the_nearest_pair_is_taken_first():
    truth = Picks.create([[0, 0, 0], [0, 0, 10]], "t")
    found = Picks.create([[0, 0, 6], [0, 0, -9]], "t")
    pairs, misses, _ = match_picks(found, truth, 10)
    assert pairs.tolist() == [[1, 0], [0, 1]]
    assert misses.size == 0


def test_the_radius_itself_is_near_enough():
    truth, found = Picks.create([[0, 0, 0]], "t"), Picks.create([[0, 3, 4]], "t")
    assert len(match_picks(found, truth, 5)[0]) == 1
    assert len(match_picks(found, truth, 4.999)[0]) == 0


def test_picks_meet_only_in_their_own_tomogram():
    truth = Picks.create([[0, 0, 0], [0, 0, 0]], ["a", "b"])
    found = Picks.create([[0, 0, 1], [0, 0, 2]], ["b", "c"])
    pairs, misses, false_alarms = match_picks(found, truth, 10)
    assert pairs.tolist() == [[0, 1]]
    assert misses.tolist() == [0]
    assert false_alarms.tolist() == [1]


def test_only_those_asked_for_take_part():
    truth = Picks.create([[0, 0, 0], [0, 0, 50]], "t")
    found = Picks.create([[0, 0, 0], [0, 0, 3], [0, 0, 50]], "t")
    pairs, misses, false_alarms = match_picks(
        found,
        truth,
        10,
        is_detection=np.array([False, True, True]),
        is_particle=np.array([True, False]),
    )
    assert pairs.tolist() == [[1, 0]]
    assert misses.size == 0
    assert false_alarms.tolist() == [2]


@pytest.mark.parametrize(
    ("names", "true_names"), [("", "t"), ("t", ""), ("t.mrc", "t"), ("", "")]
)
def test_names_that_must_mean_the_same_tomogram_meet(names, true_names):
    found, truth = (
        Picks.create([[0, 0, 0]], names),
        Picks.create([[0, 0, 0]], true_names),
    )
    assert len(match_picks(found, truth, 1)[0]) == 1


@pytest.mark.parametrize(
    ("names", "true_names"),
    [(["a"], ["b"]), (["", "a"], ["b", "c"]), ([""], ["b", "c"])],
)
def test_no_common_tomogram_is_an_error_that_names_both(names, true_names):
    found = Picks.create(np.zeros((len(names), 3)), names)
    truth = Picks.create(np.zeros((len(true_names), 3)), true_names)
    with pytest.raises(DataError, match=r"no tomogram in common: '.*' against 'b'"):
        match_picks(found, truth, 10)


def test_no_picks_at_all_are_all_misses():
    truth = Picks.create(np.zeros((2, 3)), "t")
    pairs, misses, false_alarms = match_picks(Picks.empty(), truth, 10)
    assert (pairs.shape, misses.tolist(), false_alarms.size) == ((0, 2), [0, 1], 0)
    assert match_picks(truth, Picks.empty(), 10)[2].tolist() == [0, 1]


@pytest.mark.parametrize("radius", [0, -1, np.nan, np.inf])
def test_a_radius_must_be_positive(radius):
    with pytest.raises(ConfigError, match="radius"):
        match_picks(Picks.empty(), Picks.empty(), radius)


@given(positions(), positions(), st.floats(0.5, 8))
def test_a_matching_is_one_to_one_near_and_leaves_no_free_pair(ours, theirs, radius):
    found, truth = Picks.create(ours, "t"), Picks.create(theirs, "t")
    pairs, misses, false_alarms = match_picks(found, truth, radius)
    assert sorted([*pairs[:, 0], *false_alarms]) == list(range(len(found)))
    assert sorted([*pairs[:, 1], *misses]) == list(range(len(truth)))
    distances = np.linalg.norm(ours[:, None] - theirs[None], axis=2)
    assert (distances[pairs[:, 0], pairs[:, 1]] <= radius).all()
    assert (distances[np.ix_(false_alarms, misses)] > radius).all()


@given(positions(), positions(), st.floats(0.5, 8), st.floats(0.1, 50))
def test_the_unit_of_length_does_not_matter(ours, theirs, radius, scale):
    # Squared distances are integers here, so keep the radius off their square roots.
    if abs(radius**2 - round(radius**2)) < 1e-6:
        radius += 1e-3
    pairs = match_picks(Picks.create(ours, "t"), Picks.create(theirs, "t"), radius)[0]
    scaled = match_picks(
        Picks.create(ours * scale, "t"),
        Picks.create(theirs * scale, "t"),
        radius * scale,
    )[0]
    assert len(pairs) == len(scaled)
