from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_ectkd.training.sampling import epoch_order


def order(targets, balance, seed=0):
    members = np.arange(len(targets)) * 3 + 1
    generator = torch.Generator().manual_seed(seed)
    return members, epoch_order(members, np.array(targets), balance, generator)


def test_without_balance_each_is_seen_once():
    members, found = order([0] * 50 + [1] * 2, 0)
    assert sorted(found) == sorted(members)
    assert list(found) != sorted(found)


@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=6),
    st.sampled_from([0.25, 0.5, 1.0]),
    st.integers(0, 1000),
)
def test_classes_are_seen_as_often_as_they_should(counts, balance, seed):
    targets = np.repeat(np.arange(len(counts)), counts)
    members, found = order(targets, balance, seed)
    assert len(found) == len(members)
    of_member = dict(zip(members.tolist(), targets.tolist(), strict=True))
    seen = Counter(of_member[int(m)] for m in found)
    share = np.array(counts) ** (1 - balance)
    wanted = share / share.sum() * len(members)
    for label, expected in enumerate(wanted):
        assert seen[label] >= 1
        # Every class is shown at least once, which may cost others one each.
        assert abs(seen[label] - expected) <= 1 + len(counts)
    times = Counter(found.tolist())
    for label in range(len(counts)):
        mine = [times[m] for m in members[targets == label].tolist()]
        assert max(mine) - min(mine) <= 1  # all before any comes again


def test_a_tail_of_1_in_100_is_seen_as_often_as_the_head():
    targets = [0] * 400 + [1] * 4
    members, found = order(targets, 1.0)
    assert (np.isin(found, members[400:])).mean() == pytest.approx(0.5)
    _, half = order(targets, 0.5)
    # 20 : 2
    assert (np.isin(half, members[400:])).mean() == pytest.approx(1 / 11, abs=0.01)


def test_the_same_seed_gives_the_same_order():
    targets = [0] * 20 + [1] * 3
    for balance in (0, 1):
        assert (order(targets, balance, 4)[1] == order(targets, balance, 4)[1]).all()
        assert (order(targets, balance, 4)[1] != order(targets, balance, 5)[1]).any()
