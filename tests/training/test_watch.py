import pytest

from napari_ectkd.training.watch import Watch


def look(metrics, *, epochs=None, n_classes=4):
    """Feed epochs to a watch; return what it said, with the epoch."""
    watch = Watch(n_classes, epochs or len(metrics))
    return [
        (number, note.text)
        for number, values in enumerate(metrics, start=1)
        for note in watch.look(number, values)
        if note.is_warning
    ]


def epoch(loss, accuracy=0.9, val_loss=None, val_accuracy=None, **recalls):
    found = {"loss": loss, "accuracy": accuracy}
    if val_loss is not None:
        found |= {"val_loss": val_loss, "val_accuracy": val_accuracy or 0.6}
    return found | {f"recall: {name}": value for name, value in recalls.items()}


def test_a_run_that_goes_well_is_left_in_peace():
    well = [
        epoch(1.3 / n, 1 - 0.5 / n, 1.4 / n, 1 - 0.6 / n, a=0.9) for n in range(1, 40)
    ]
    assert look(well) == []


def test_over_fitting_is_said_once():
    rising = [epoch(1.0, 0.6, 1.0)] * 3
    rising += [epoch(0.1, 0.99, 1.0 + 0.1 * n, 0.7) for n in range(30)]
    said = look(rising)
    assert len(said) == 1
    number, text = said[0]
    # Looked at in the second half of 33 epochs; five epochs of it in epoch 21.
    assert number == 21
    assert "over-fitting since about epoch 17" in text
    assert "99% right in training, 70% in validation" in text


def test_a_loss_that_wobbles_is_not_over_fitting():
    wobbles = [epoch(0.1, 0.99, [1.0, 1.5][n % 2], 0.7) for n in range(40)]
    assert look(wobbles) == []


def test_a_leap_at_a_high_rate_is_not_over_fitting():
    leap = [epoch(0.5, 0.9, 1.0, 0.6)] * 8 + [epoch(0.4, 0.95, 9.0, 0.4)] * 10
    leap += [epoch(0.3, 0.97, 0.4, 0.95)] * 22
    assert look(leap) == []


def test_divergence():
    said = look([epoch(1.2), epoch(0.9), epoch(3.5), epoch(9.0)], epochs=100)
    assert [number for number, _ in said] == [3]
    assert "went up to 3.50 in epoch 3, where guessing costs 1.39" in said[0][1]


def test_a_network_that_learns_nothing():
    said = look([epoch(1.39, 0.25)] * 20)
    assert [number for number, _ in said] == [10]
    assert "no better than guessing" in said[0][1]


@pytest.mark.parametrize(
    ("recalls", "n"), [({"a": 0, "b": 1, "c": 1}, 1), ({"a": 1}, 0)]
)
def test_a_class_that_is_never_recognized(recalls, n):
    said = look([epoch(0.5, 0.9, 0.5, **recalls)] * 10)
    assert len(said) == n
    if n:
        assert said[0][0] == 7  # three times in the second half
        assert "not one a of the validation part is recognized" in said[0][1]
