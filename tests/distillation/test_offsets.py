import numpy as np
import pytest
import torch
from tests.distillation.conftest import QUICK

from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.dataset.split import Split
from napari_ectkd.dataset.subtomograms import NO_TARGET
from napari_ectkd.distillation.config import DistillConfig
from napari_ectkd.distillation.distill import distill
from napari_ectkd.distillation.offsets import fit_offsets, label_weights
from napari_ectkd.errors import ConfigError
from napari_ectkd.evaluation.calibration import softmax
from napari_ectkd.events import Cancel, CancelledError, EpochEnd, Noted, Saved
from napari_ectkd.models.checkpoint import load_checkpoint, read_info
from napari_ectkd.models.head import add_to_logits
from napari_ectkd.models.registry import MODELS, MONAI_MODELS, build_model
from napari_ectkd.runs import Run
from napari_ectkd.training.batches import Material


def labels_of(logits, generator):
    """Draw a class for each row, with the probabilities of its logits."""
    odds = softmax(logits).cumsum(axis=1)
    return (odds < generator.random((len(logits), 1))).sum(axis=1)


def test_many_labels_take_a_known_lean_back():
    generator = np.random.default_rng(0)
    right = 2 * generator.normal(size=(20_000, 4))
    truth = labels_of(right, generator)
    lean = np.array([0.8, -0.5, 0.0, -0.3])
    found = fit_offsets(right + lean, truth, np.ones(len(truth)))
    np.testing.assert_allclose(found - found.mean(), -lean, atol=0.08)


def test_few_labels_move_little_and_none_nothing():
    logits = np.zeros((1, 2))
    (one, _) = fit_offsets(logits, [0], [1.0])
    # The most probable offset: (1 - p) = b for two classes at b and -b.
    assert 1 / (1 + np.exp(2 * one)) == pytest.approx(one, abs=1e-4)
    assert fit_offsets(logits, [0], [0.0]).tolist() == [0, 0]


def test_a_label_that_counts_twice_is_two_labels():
    generator = np.random.default_rng(1)
    logits, truth = generator.normal(size=(6, 3)), [0, 1, 1, 2, 0, 1]
    twice = fit_offsets(logits, truth, [2, 1, 1, 1, 1, 1])
    again = fit_offsets(logits[[0, *range(6)]], [0, *truth], np.ones(7))
    np.testing.assert_allclose(twice, again, atol=1e-4)


def material(targets, groups, training):
    split = Split(np.array(training), np.array([], dtype=int), "by hand")
    return Material(None, split, np.array(targets), ["a", "b"], groups=np.array(groups))


def test_labels_weigh_as_much_as_their_class_was_seen():
    # Of a two labels and two unlabeled ones, of b one and five; one label taught not.
    none = [NO_TARGET] * 7
    seen = material(
        [0, 0, 1, *none, 1], [0, 0, 1, 0, 0, 1, 1, 1, 1, 1, 1], list(range(10))
    )
    a, also_a, b = label_weights(seen, balance=0.0)
    assert a == also_a
    assert b / (a + also_a) == pytest.approx(6 / 4)
    assert (a + also_a + b) / 3 == pytest.approx(1)
    a, _, b = label_weights(seen, balance=1.0)
    assert b == pytest.approx(2 * a)


@pytest.mark.parametrize("name", [*MODELS, *MONAI_MODELS])
def test_each_networks_logits_move_by_the_offsets(name):
    if name in MONAI_MODELS:
        pytest.importorskip("monai")
    torch.manual_seed(0)
    model = build_model(name, 3, 32).eval()
    volumes = torch.randn(2, 1, 32, 32, 32)
    offsets = np.array([0.5, -1.0, 0.25])
    with torch.no_grad():
        before = model(volumes)
        add_to_logits(model, offsets)
        after = model(volumes)
    moved = (after - before).numpy()
    np.testing.assert_allclose(moved, np.tile(offsets, (2, 1)), atol=1e-4)


def test_a_network_without_a_last_bias_is_an_error():
    model = torch.nn.Linear(4, 3, bias=False)
    with pytest.raises(ConfigError, match="--no-class-offsets"):
        add_to_logits(model, np.zeros(3))


def distilled(run, teacher, phantoms, **changes):
    settings = QUICK | {"epochs": 2, "unlabeled": [phantoms]} | changes
    config = DistillConfig(model="compact_nano", **settings)
    data = DataConfig(data=[phantoms])
    return list(distill([teacher], data, config, run, cancel=Cancel()))


@pytest.mark.parametrize("fraction", [0.0, 0.34])
def test_offsets_are_all_that_changes(fraction, phantoms, teacher, tmp_path):
    runs = [Run(tmp_path / "without"), Run(tmp_path / "with")]
    changes = {"validation_fraction": fraction}
    distilled(runs[0], teacher, phantoms, **changes)
    events = distilled(runs[1], teacher, phantoms, **changes, class_offsets=True)
    said = [e.text for e in events if isinstance(e, Noted)]
    assert any("added to the logits" in text and "barrel" in text for text in said)
    before, after = (load_checkpoint(run.best_path)[0].state_dict() for run in runs)
    differs = [name for name in before if not torch.equal(before[name], after[name])]
    assert differs == ["head.bias"]
    # The last weights are those that were trained.
    last = [load_checkpoint(run.last_path)[0].state_dict() for run in runs]
    assert all(torch.equal(last[0][name], last[1][name]) for name in last[0])


def test_who_learns_once_more_from_all_labels_is_corrected_too(
    phantoms, teacher, tmp_path
):
    runs = [Run(tmp_path / "without"), Run(tmp_path / "with")]
    changes = {"validation_fraction": 0.34, "refit": True}
    distilled(runs[0], teacher, phantoms, **changes)
    events = distilled(runs[1], teacher, phantoms, **changes, class_offsets=True)
    said = [e.text for e in events if isinstance(e, Noted)]
    assert sum("added to the logits" in text for text in said) == 2
    for path in ("validated_path", "best_path"):
        before, after = (
            load_checkpoint(getattr(run, path))[0].state_dict() for run in runs
        )
        differs = [n for n in before if not torch.equal(before[n], after[n])]
        assert differs == ["head.bias"]
    # The figures are those of the corrected one.
    result = events[-1].result
    told = read_info(runs[1].validated_path).metrics
    for name, of in result["report"]["classes"].items():
        assert told[f"recall: {name}"] == result[f"recall: {name}"] == of["recall"]
    assert told["val_loss"] == result["val_loss"]


def test_stopped_while_it_is_corrected_it_learns_nothing_anew(
    phantoms, teacher, tmp_path
):
    settings = QUICK | {"epochs": 2, "validation_fraction": 0.34}
    config = DistillConfig(
        model="compact_nano", unlabeled=[phantoms], class_offsets=True, **settings
    )
    data = DataConfig(data=[phantoms])
    runs = [Run(tmp_path / "whole"), Run(tmp_path / "part")]
    list(distill([teacher], data, config, runs[0], cancel=Cancel()))
    cancel = Cancel()
    stream = distill([teacher], data, config, runs[1], cancel=cancel)
    for event in stream:
        if isinstance(event, Saved) and event.what == "model":
            cancel.request()
            break
    with pytest.raises(CancelledError):
        list(stream)
    assert runs[1].can_resume()
    stream = distill([teacher], data, config, runs[1], cancel=Cancel(), is_resumed=True)
    ends = [event for event in stream if isinstance(event, EpochEnd)]
    assert ends == []
    assert not runs[1].can_resume()
    before, after = (load_checkpoint(r.best_path)[0].state_dict() for r in runs)
    assert all(torch.equal(before[name], after[name]) for name in before)
