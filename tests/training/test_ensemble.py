import pytest

from napari_ectkd.events import EpochEnd
from napari_ectkd.training.ensemble import _of_the_whole


def epoch(number, left):
    return EpochEnd(epoch=number, epochs=100, metrics={}, seconds_left=left)


@pytest.mark.parametrize(
    ("number", "again", "left", "whole"),
    [
        (50, 0, 50, 50 + 300),  # a second an epoch, three more members
        (50, 100, 150, 150 + 600),  # each learns as long once more
        (99, 100, 101, 101 + 600),
        (100, 0, 0, None),  # nothing tells the pace
        (100, 100, None, None),
    ],
)
def test_the_time_left_is_that_of_all_members(number, again, left, whole):
    told = _of_the_whole(epoch(number, left), 1, 4, again)
    assert told.seconds_left == (None if whole is None else pytest.approx(whole))
    assert (told.epoch, told.epochs, told.member) == (number, 400, 1)


def test_the_last_member_tells_its_own():
    told = _of_the_whole(epoch(100, 0), 4, 4, 0)
    assert (told.epoch, told.seconds_left) == (400, 0)
