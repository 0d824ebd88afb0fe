import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.dataset.sources import load_dataset
from napari_ectkd.dataset.split import split_dataset
from napari_ectkd.errors import ConfigError, DataError, FileMissingError, FormatError
from napari_ectkd.evaluation.metrics import calibration_error
from napari_ectkd.events import Cancel, CancelledError, EpochEnd, Finished, Noted, Saved
from napari_ectkd.models.checkpoint import load_checkpoint, read_info
from napari_ectkd.training import batches, keeping, loop
from napari_ectkd.training.defaults import default_epochs
from napari_ectkd.training.objective import Batch
from napari_ectkd.training.resume import load_state


def epochs_of(events):
    return [event for event in events if isinstance(event, EpochEnd)]


def texts_of(events, *, is_warning=None):
    return [
        event.text
        for event in events
        if isinstance(event, Noted) and is_warning in (None, event.is_warning)
    ]


def open_data(config):
    stream = load_dataset(config, cancel=Cancel())
    while True:
        try:
            next(stream)
        except StopIteration as end:
            return end.value


def assert_same_weights(one, other, name="last_path"):
    first, second = load_file(getattr(one, name)), load_file(getattr(other, name))
    assert first.keys() == second.keys()
    for key in first:
        assert torch.equal(first[key], second[key]), key


def test_the_teacher_overfits_16_phantoms(learn, phantoms):
    stream, run = learn(
        model="residual_small",
        epochs=40,
        batch_size=16,
        validation_fraction=0,
        rotations=False,
        shift=0,
        label_smoothing=0,
    )
    events = list(stream)
    assert epochs_of(events)[-1].metrics["loss"] < 0.2
    # By what the file alone holds, in eval mode, all are right.
    model, info = load_checkpoint(run.path)
    data = open_data(DataConfig(data=[phantoms]))
    assert len(data) == 16
    with torch.no_grad():
        logits = model(torch.from_numpy(data.read(np.arange(16)))[:, None])
    said = np.array(info.classes)[logits.argmax(dim=1).numpy()]
    assert (said == data.label).all()


def test_what_a_run_leaves(learn, phantoms):
    stream, run = learn(validation_fraction=0.5)
    events = list(stream)
    assert isinstance(events[-1], Finished)
    saved = {e.what: e.path for e in events if isinstance(e, Saved)}
    assert saved["model"] == str(run.best_path)
    ends = epochs_of(events)
    assert [end.epoch for end in ends] == [1, 2, 3, 4]
    best = min(ends, key=lambda end: end.metrics["val_loss"])
    info = read_info(run.best_path)
    assert info.epoch == best.epoch == events[-1].result["best_epoch"]
    assert info.metrics == pytest.approx(best.metrics)
    assert read_info(run.last_path).epoch == 4
    assert not run.resume_path.exists()
    assert info.classes[-1] == "none"
    assert (info.box, info.voxel_size, info.tilt_range) == (24, 14.0, (-60.0, 60.0))
    assert info.normalization.mode == "data"
    assert info.trained_by == "train"
    result = events[-1].result
    assert result["val_loss"] == pytest.approx(best.metrics["val_loss"], rel=1e-4)
    report = result["report"]
    assert report["confusion"]["labels"] == info.classes
    assert np.sum(report["confusion"]["matrix"]) == 8
    assert result["parameters"] == sum(
        p.numel() for p in load_checkpoint(run.path)[0].parameters()
    )


def test_the_same_seed_gives_the_same_weights(learn):
    runs = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        stream, run = learn(name, seed=seed)
        torch.manual_seed(len(runs))  # what the process did before does not matter
        torch.rand(3)
        list(stream)
        runs.append(run)
    assert_same_weights(runs[0], runs[1])
    with pytest.raises(AssertionError):
        assert_same_weights(runs[0], runs[2])


@pytest.mark.parametrize("model", ["compact", "forgetful"])
@pytest.mark.parametrize("how", ["cancel", "kill"])
def test_an_interrupted_run_goes_on_to_the_same_weights(learn, monkeypatch, model, how):
    # One of them has dropout: its draws must go on too.
    monkeypatch.setattr(keeping, "SECONDS_BETWEEN_SAVES", 0)
    settings = {"model": model, "epochs": 3}
    stream, whole = learn("whole", **settings)
    uninterrupted = list(stream)
    cancel = Cancel()
    stream, part = learn("part", cancel=cancel, **settings)
    seen = []
    for event in stream:
        seen.append(event)
        if isinstance(event, EpochEnd) and event.epoch == 2:
            # Killed after the second epoch's end was said, before its state was saved.
            if how == "kill":
                stream.close()
                break
            cancel.request()
            with pytest.raises(CancelledError):
                list(stream)
            break
    assert part.resume_path.exists()
    stream, part = learn("part", is_resumed=True, **settings)
    events = list(stream)
    assert epochs_of(events)[0].epoch == {"cancel": 3, "kill": 2}[how]
    assert any("going on after epoch" in text for text in texts_of(events))
    assert_same_weights(whole, part)
    assert_same_weights(whole, part, "best_path")
    assert not part.resume_path.exists()
    mine, theirs = (e[-1].result for e in (uninterrupted, events))
    for key in ("best_epoch", "val_loss", "report"):
        assert mine[key] == theirs[key]


def test_there_is_nothing_to_resume_in_a_new_or_finished_run(learn):
    stream, run = learn(epochs=1)
    list(stream)
    with pytest.raises(FileMissingError, match="nothing to resume"):
        learn(epochs=1, is_resumed=True)
    with pytest.raises(FileMissingError, match="nothing to resume"):
        learn("new", is_resumed=True)
    assert run.best_path.exists()


def test_a_broken_state_is_an_error(learn, tmp_path):
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=4)
    path = tmp_path / "resume.safetensors"
    path.write_bytes(b"broken")
    with pytest.raises(FormatError, match="cannot be resumed"):
        load_state(path, model, optimizer, schedule)
    stream, run = learn(epochs=1)
    list(stream)
    run.resume_path.write_bytes(run.best_path.read_bytes())  # weights alone
    with pytest.raises(FormatError, match="cannot be resumed"):
        load_state(run.resume_path, model, optimizer, schedule)
    save_file({"model.weight": torch.zeros(2, 2)}, path)  # no header at all
    with pytest.raises(FormatError, match="cannot be resumed"):
        load_state(path, torch.nn.Linear(2, 2, bias=False), optimizer, schedule)
    with pytest.raises(FormatError, match="cannot be resumed"):
        load_state(tmp_path / "none.safetensors", model, optimizer, schedule)


@pytest.mark.parametrize("at", [1, 2])
def test_cancel_stops_within_two_batches(learn, monkeypatch, at):
    cancel = Cancel()
    seen = []

    def counted(*parts):
        seen.append(1)
        if len(seen) == at:
            cancel.request()
        return Batch(*parts)

    monkeypatch.setattr(batches, "Batch", counted)
    stream, run = learn(batch_size=2, epochs=50, cancel=cancel)
    with pytest.raises(CancelledError):
        list(stream)
    assert len(seen) <= at + 2
    assert not run.best_path.exists()


def test_without_validation_the_last_weights_are_kept(learn):
    stream, run = learn(validation_fraction=0, epochs=3)
    events = list(stream)
    assert read_info(run.best_path).epoch == 3
    best, last = load_file(run.best_path), load_file(run.last_path)
    assert all(torch.equal(best[key], last[key]) for key in best)
    assert any("no validation" in text for text in texts_of(events, is_warning=True))
    assert "val_loss" not in events[-1].result
    assert "report" not in events[-1].result


def test_it_stops_early_where_validation_gets_no_better(learn, monkeypatch):
    losses = iter([3.0, 1.0, 2.0, 1.0, 1.5, 0.1, 0.1])
    real = loop.score_logits

    def scripted(*args):
        metrics, report = real(*args)
        return metrics | {"val_loss": next(losses)}, report

    monkeypatch.setattr(loop, "score_logits", scripted)
    stream, run = learn(epochs=30, patience=3)
    events = list(stream)
    assert [end.epoch for end in epochs_of(events)] == [1, 2, 3, 4, 5]
    assert any("stopped after epoch 5" in text for text in texts_of(events))
    assert read_info(run.best_path).epoch == 2
    assert events[-1].result["best_epoch"] == 2
    assert not run.resume_path.exists()


def test_a_loss_that_is_no_number_is_an_error(learn):
    stream, _ = learn(learning_rate=1.0, epochs=20, model="dsrf3d_v2", weight_decay=1e9)
    with pytest.raises(DataError, match="lower --learning-rate"):
        list(stream)


def test_a_batch_larger_than_the_data_is_all_of_it(learn):
    stream, _ = learn(batch_size=500, epochs=2, validation_fraction=0)
    events = list(stream)
    assert len(epochs_of(events)) == 2
    assert epochs_of(events)[0].metrics["per_second"] > 0


def test_each_epoch_sees_each_subtomogram_once(learn, monkeypatch):
    seen = []

    def kept(volumes, targets, index):
        seen.append(index.tolist())
        return Batch(volumes, targets, index)

    monkeypatch.setattr(batches, "Batch", kept)
    stream, _ = learn(batch_size=4, epochs=2, validation_fraction=0)
    list(stream)
    _examples, *seen = seen
    first, second = np.concatenate(seen[:4]), np.concatenate(seen[4:])
    assert sorted(first) == sorted(second) == list(range(16))
    assert list(first) != list(second)


def test_the_end_of_training_is_calibrated(learn, phantoms):
    stream, run = learn(epochs=6, validation_fraction=0.5)
    events = list(stream)
    found = read_info(run.best_path).calibration
    assert events[-1].result["calibration"] == found.model_dump()
    assert read_info(run.last_path).calibration is None
    assert found.n == 8
    assert any("calibrated on 8 validation picks" in text for text in texts_of(events))
    # Scored again, by what the file alone says.
    data = open_data(DataConfig(data=[phantoms]))
    model, info = load_checkpoint(run.path)
    kept = split_dataset(
        data.targets(info.classes), data.tomogram, data.positions, 336, 0.5, 0
    ).validation
    with torch.no_grad():
        logits = model(torch.from_numpy(data.read(kept))[:, None]).double()
    truth = data.targets(info.classes)[kept]
    shares = torch.softmax(logits / found.temperature, dim=1).numpy()
    assert calibration_error(shares, truth) == pytest.approx(found.error_after)


def test_without_validation_nothing_is_calibrated_and_it_is_said(learn):
    stream, run = learn(epochs=1, validation_fraction=0)
    events = list(stream)
    assert read_info(run.best_path).calibration is None
    assert "calibration" not in events[-1].result
    assert any("not calibrated" in t for t in texts_of(events, is_warning=True))


def test_the_learning_rate_follows_one_cycle(learn):
    stream, _ = learn(epochs=8, batch_size=2, learning_rate=0.01)
    rates = [end.metrics["learning_rate"] for end in epochs_of(list(stream))]
    assert max(rates) <= 0.01
    assert max(rates) > 0.9 * 0.01
    assert rates.index(max(rates)) in (1, 2)
    assert rates[-1] < 0.01 * max(rates)


def test_default_epochs_make_about_1500_batches_and_at_least_18_passes():
    assert default_epochs(2500, 50) == 30
    assert default_epochs(5000, 50) == 18
    assert default_epochs(100, 50) == 750
    assert default_epochs(10, 50) == 1500
    assert default_epochs(10**6, 50) == 18


def test_a_default_model_is_chosen_by_the_amount_of_data(learn):
    stream, run = learn(model=None, epochs=1)
    list(stream)
    assert read_info(run.best_path).model == "residual_small"


def test_errors_come_at_the_call_where_they_can(learn):
    with pytest.raises(ConfigError, match="no network called"):
        learn(model="vgg")
    with pytest.raises(ConfigError, match="no device 'cuda:99'"):
        learn(device="cuda:99")


def test_data_that_cannot_serve_is_an_error(learn, make_mrc):
    random = np.random.default_rng(0)
    for number in range(4):
        path = make_mrc(
            random.normal(size=(24, 24, 24)).astype(np.float32),
            name=f"one/a/{number}.mrc",
        )
    folder = path.parent.parent
    stream, _ = learn(data=DataConfig(data=[folder]))
    with pytest.raises(DataError, match=r"only one class \(a\) has labels"):
        list(stream)
    make_mrc(random.normal(size=(24, 24, 24)).astype(np.float32), name="one/b/0.mrc")
    stream, _ = learn(data=DataConfig(data=[folder]), model="student1")
    with pytest.raises(ConfigError, match="student1 needs a box of at least 27"):
        list(stream)
    stream, run = learn("few", data=DataConfig(data=[folder]), epochs=1)
    warnings = texts_of(list(stream), is_warning=True)
    assert any("only 1 label of b" in text for text in warnings)
    assert any("no b in the validation part" in text for text in warnings)
    assert run.best_path.exists()
