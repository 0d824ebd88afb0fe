"""A model that learns once more from all labels."""

from __future__ import annotations

import json

import pytest
from safetensors.torch import load_file

from napari_ectkd.events import Cancel, CancelledError, EpochEnd, Finished, Progress
from napari_ectkd.models.checkpoint import read_info
from napari_ectkd.training import keeping
from napari_ectkd.training.config import TrainConfig
from napari_ectkd.training.defaults import wants_all
from napari_ectkd.training.refit import lengthened

ONCE_MORE = "once more, from all labels"


def same_weights(one, other):
    mine, theirs = load_file(one), load_file(other)
    assert mine.keys() == theirs.keys()
    return all(mine[key].equal(theirs[key]) for key in mine)


def test_it_is_the_model_that_no_validation_would_have_given(learn):
    stream, run = learn("run", epochs=3, refit=True)
    events = list(stream)
    stream, blind = learn("blind", epochs=3, validation_fraction=0)
    list(stream)
    assert same_weights(run.best_path, blind.best_path)
    assert not same_weights(run.best_path, run.validated_path)
    stream, alone = learn("alone", epochs=3, refit=False)
    list(stream)
    assert same_weights(run.validated_path, alone.best_path)
    assert not alone.validated_path.exists()
    # Figures, calibration and header are those of the validated model.
    assert read_info(run.best_path) == read_info(run.validated_path)
    result = events[-1].result
    assert result["is_refit"] is True
    assert "val_accuracy" in result
    card = json.loads(run.card_path.with_suffix(".json").read_text())
    assert card["training"]["is_refit"] is True
    assert "once more, from all labels" in run.card_path.read_text()
    assert not run.on_all.path.exists()
    assert not run.can_resume()


def test_it_tells_how_far_it_is(learn):
    stream, _ = learn(epochs=4, refit=True)
    events = list(stream)
    told = [e for e in events if isinstance(e, Progress) and e.stage == ONCE_MORE]
    assert [(e.done, e.total) for e in told] == [(n, 4) for n in (1, 2, 3, 4)]
    assert len([e for e in events if isinstance(e, EpochEnd)]) == 4


def test_the_time_left_counts_both_times():
    def training():
        for epoch in (1, 2, 3, 4):
            left = 10.0 * (4 - epoch)
            yield EpochEnd(epoch=epoch, epochs=4, metrics={}, seconds_left=left)
        return {"seconds": 40.0}

    def listening():
        assert (yield from lengthened(training())) == {"seconds": 40.0}

    assert [event.seconds_left for event in listening()] == [70, 60, 50, None]


@pytest.mark.parametrize("is_killed", [True, False])
def test_interrupted_on_the_way_it_goes_on_to_the_same_weights(
    learn, monkeypatch, is_killed
):
    monkeypatch.setattr(keeping, "SECONDS_BETWEEN_SAVES", 0)
    settings = {"model": "forgetful", "epochs": 4, "refit": True}
    stream, whole = learn("whole", **settings)
    expected = next(e for e in stream if isinstance(e, Finished)).result
    cancel = Cancel()
    stream, part = learn("part", cancel=cancel, **settings)
    for event in stream:
        if isinstance(event, Progress) and event.stage == ONCE_MORE and event.done == 2:
            if is_killed:
                stream.close()
                break
            cancel.request()
            with pytest.raises(CancelledError):
                list(stream)
            break
    # Whatever happens, there is a model to use.
    assert same_weights(part.best_path, part.validated_path)
    assert part.can_resume()
    stream, part = learn("part", is_resumed=True, **settings)
    events = list(stream)
    assert not [e for e in events if isinstance(e, EpochEnd)]
    assert same_weights(whole.best_path, part.best_path)
    found = events[-1].result
    assert found["val_loss"] == expected["val_loss"]
    assert not part.can_resume()


def test_by_default_it_is_for_few_labels():
    config = TrainConfig()
    assert wants_all(config, [49, 20, 500])
    assert not wants_all(config, [49, 50, 500])
    assert not wants_all(TrainConfig(validation_fraction=0), [20, 20])
    assert not wants_all(TrainConfig(refit=False), [20, 20])
    assert wants_all(TrainConfig(refit=True), [2000, 2000])
