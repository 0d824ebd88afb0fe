"""Memory that runs out, half precision, and batches in parts."""

from contextlib import nullcontext
from threading import Event

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.training.conftest import stopped
from torch import nn
from torch.nn import functional

from napari_ectkd.dataset.augment import Augmentation, Draws
from napari_ectkd.dataset.config import AugmentConfig
from napari_ectkd.errors import DataError
from napari_ectkd.events import Cancel, EpochEnd, Finished, Noted
from napari_ectkd.models import teachers
from napari_ectkd.models.inference import infer_logits
from napari_ectkd.models.registry import MODELS, ModelSpec
from napari_ectkd.training import loop
from napari_ectkd.training.batches import Loaded, _read_ahead
from napari_ectkd.training.objective import HardLabels
from napari_ectkd.training.step import Stepper, Tally, _parts
from napari_ectkd.training.workers import Workers


class Greedy(nn.Module):
    """Needs more memory than there is for more than `most` subtomograms at once."""

    most = 10**9
    error = torch.OutOfMemoryError("CUDA out of memory.")

    def __init__(self, n_classes, box_px):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(1, 4, 3, stride=4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(4 * (box_px // 4) ** 3, n_classes),
        )

    def forward(self, volumes):
        # Without gradients twice as many fit.
        if len(volumes) > self.most * (1 if self.training else 2):
            raise self.error
        return self.layers(volumes)


@pytest.fixture
def greedy(monkeypatch):
    monkeypatch.setattr(teachers, "greedy", Greedy, raising=False)
    spec = ModelSpec("greedy", "teacher", "", 8, 1e-3, (teachers.__name__, "greedy"))
    monkeypatch.setitem(MODELS, "greedy", spec)

    def most(n):
        monkeypatch.setattr(Greedy, "most", n)

    return most


def warnings_of(events):
    return [e.text for e in events if isinstance(e, Noted) and e.is_warning]


def test_out_of_memory_halves_the_batch_says_so_and_goes_on(greedy, learn):
    settings = {"model": "greedy", "epochs": 2, "batch_size": 8, "noise": 0.2}
    stream, whole = learn("whole", validation_fraction=0, **settings)
    list(stream)
    greedy(3)
    stream, parts = learn("parts", validation_fraction=0, **settings)
    events = list(stream)
    assert isinstance(events[-1], Finished)
    said = [text for text in warnings_of(events) if "out of memory" in text]
    assert len(said) == 2  # 8, then 4, and 2 from then on, in the second epoch too
    assert "with 8 subtomograms at once: from now on 4 are computed" in said[0]
    assert "with 4 subtomograms at once: from now on 2 are computed" in said[1]
    # Without batch norm the gradients of the parts add up to the same steps.
    one, other = load_file(whole.last_path), load_file(parts.last_path)
    for key in one:
        torch.testing.assert_close(other[key], one[key], rtol=1e-3, atol=1e-5)


def test_validation_takes_as_much_at_once_as_training_found_to_fit(greedy, learn):
    settings = {"model": "greedy", "epochs": 2, "batch_size": 8}
    greedy(3)
    stream, _ = learn(**settings)
    events = list(stream)
    assert "val_accuracy" in events[-1].result
    # Training found out; of validation only the result, which asks as a run begins to.
    epochs = [i for i, event in enumerate(events) if isinstance(event, EpochEnd)]
    assert not warnings_of(events[epochs[0] : epochs[-1]])


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate"),
    ],
)
def test_what_does_not_fit_is_classified_in_halves(greedy, monkeypatch, error):
    greedy(1)
    monkeypatch.setattr(Greedy, "error", error)
    model = Greedy(3, 8)
    volumes = np.random.default_rng(0).normal(size=(7, 8, 8, 8)).astype(np.float32)
    said = []

    def logits(batch_size):
        stream = infer_logits(
            model,
            volumes.__getitem__,
            np.arange(7),
            device=torch.device("cpu"),
            dtype=None,
            batch_size=batch_size,
            cancel=Cancel(),
        )
        while True:
            try:
                said.append(next(stream))
            except StopIteration as end:
                return end.value

    found = logits(7)
    assert [text.split(":")[0] for text in warnings_of(said)] == [
        "out of memory with 7 subtomograms at once",
        "out of memory with 4 subtomograms at once",
    ]
    torch.testing.assert_close(found, logits(2))
    greedy(0)
    with pytest.raises(DataError, match="single subtomogram"):
        logits(2)


def test_parts_cover_a_batch_and_are_of_one_size():
    for n in range(1, 30):
        for n_parts in range(1, n + 1):
            parts = _parts(n, n_parts)
            assert len(parts) == n_parts
            assert [i for part in parts for i in range(n)[part]] == list(range(n))
            sizes = {len(range(n)[part]) for part in parts}
            assert max(sizes) - min(sizes) <= 1


def test_all_processes_have_as_many_parts():
    """Or one would wait for the statistics of another that is a part ahead."""

    class Some:
        def __init__(self, n, n_whole):
            self.n, self.n_whole = n, n_whole

        def __len__(self):
            return self.n

    for n in (1, 2, 3, 4, 8):
        for n_whole in range(n, 60):
            shares = [Workers(rank, n).share(n_whole) for rank in range(n)]
            sizes = [len(range(n_whole)[share]) for share in shares]
            for most in range(1, max(sizes) + 1):
                parts = []
                for rank, size in enumerate(sizes):
                    stepper = object.__new__(Stepper)
                    stepper._workers = Workers(rank, n)
                    stepper.most_at_once = most
                    some = Some(size, n_whole)
                    assert stepper._most_of(some) == most
                    parts.append(stepper._parts(some, most))
                assert len({len(each) for each in parts}) == 1
                longest = max(part.stop - part.start for each in parts for part in each)
                # Where a share has fewer than there are parts, one more fits in.
                assert longest <= most + (min(sizes) < max(sizes) and most == 1)


class Parallel(nn.Module):
    """Like torch's own for several GPUs: while it computes, it waits for the others."""

    def __init__(self, module, *, may_wait):
        super().__init__()
        self.module = module
        self.may_wait = may_wait

    def forward(self, volumes):
        assert self.may_wait, "the other one may be out of memory and never come"
        return self.module(volumes)

    def no_sync(self):
        return nullcontext()


def test_what_fits_each_process_is_tried_out_before_any_waits():
    layers = (nn.Flatten(), nn.BatchNorm1d(27), nn.Dropout(0.5), nn.Linear(27, 2))
    model = nn.Sequential(*layers)
    parallel = Parallel(model, may_wait=False)
    seen = []
    model.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))

    class Pair(Workers):
        """This process and another, whose memory is short for three or more."""

        def any(self, flag):
            parallel.may_wait = seen[-1] < 3
            return flag or not parallel.may_wait

    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loaded = Loaded(
        volumes=torch.randn(8, 1, 3, 3, 3),
        targets=torch.tensor([0, 1] * 4),
        index=torch.arange(8),
        draws=Draws(torch.ones(8, 3, dtype=torch.long), torch.zeros(8, 3).long()),
        n_whole=16,
        augmentation=Augmentation(AugmentConfig(), None),
        device=torch.device("cpu"),
    )
    stepper = Stepper(
        parallel,
        HardLabels(),
        optimizer,
        torch.optim.lr_scheduler.ConstantLR(optimizer),
        device=torch.device("cpu"),
        dtype=None,
        most_at_once=None,
        loss_scale={},
        workers=Pair(n=2),
    )
    before = torch.get_rng_state()
    said = warnings_of(stepper.step(loaded, tally := Tally()))
    assert [text.split(":")[0] for text in said] == [
        "out of memory with 8 subtomograms at once",
        "out of memory with 4 subtomograms at once",
    ]
    # Tried out with 8, 4 and 2, then learned from; only that leaves a trace.
    assert seen == [8, 4, 4, 2, 2, 2, 2, 2, 2, 2, 2]
    assert int(model[1].num_batches_tracked) == 4
    assert tally.n == 8
    after = torch.get_rng_state()
    torch.set_rng_state(before)
    for _ in range(4):
        functional.dropout(torch.ones(2, 27))
    assert torch.equal(torch.get_rng_state(), after)
    # Later batches are not tried out again.
    list(stepper.step(loaded, tally))
    assert seen[11:] == [2] * 4


def test_another_error_is_no_lack_of_memory(greedy, learn, monkeypatch):
    greedy(3)
    monkeypatch.setattr(Greedy, "error", RuntimeError("broken"))
    stream, _ = learn(model="greedy", batch_size=8)
    with pytest.raises(RuntimeError, match="broken"):
        list(stream)


def test_a_resumed_run_remembers_how_much_fits(greedy, learn, monkeypatch):
    greedy(3)
    settings = {"model": "greedy", "epochs": 2, "batch_size": 8}
    stream, run = learn(validation_fraction=0, **settings)
    # Its first epoch is saved before the next begins.
    while not run.resume_path.exists():
        next(stream)
    stream.close()
    stream, _ = learn(validation_fraction=0, is_resumed=True, **settings)
    assert not [text for text in warnings_of(stream) if "out of memory" in text]


def test_not_even_one_fits(greedy, learn):
    greedy(0)
    stream, _ = learn(model="greedy")
    with pytest.raises(DataError, match="single subtomogram at once: take a smaller"):
        list(stream)


def test_float16_learns(greedy, learn):
    """With scaled gradients, since small ones are 0 in half precision."""
    stream, _ = learn(
        model="greedy",
        precision="float16",
        epochs=20,
        learning_rate=0.01,
        validation_fraction=0,
        rotations=False,
        shift=0,
    )
    losses = [e.metrics["loss"] for e in stream if isinstance(e, EpochEnd)]
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.5 * losses[0]


def test_in_float16_too_a_resumed_run_ends_as_one_never_interrupted(greedy, learn):
    """Its loss is scaled until a step overflows; the scale is part of the state."""
    settings = {"model": "greedy", "precision": "float16", "epochs": 3}
    settings |= {"batch_size": 4, "validation_fraction": 0}
    stream, whole = learn("whole", **settings)
    list(stream)
    part, standing = stopped(learn, "part", **settings)
    assert standing["loss_scale"]["_growth_tracker"] > 0
    stream, _ = learn("part", is_resumed=True, **settings)
    list(stream)
    one, other = load_file(whole.last_path), load_file(part.last_path)
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_cancel_is_looked_at_in_each_step(learn):
    cancel = Cancel()
    cancel.request()
    stream, run = learn(cancel=cancel)
    with pytest.raises(Exception, match="cancelled"):
        list(stream)
    assert not run.last_path.exists()


def test_a_network_is_compiled_if_asked_and_possible(greedy, learn, monkeypatch):
    settings = {"model": "greedy", "epochs": 2, "batch_size": 8, "compile": True}
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or model)
    problem = "there is no C++ compiler on this machine"
    monkeypatch.setattr(loop, "compiler_problem", lambda *_: problem)
    stream, plain = learn("plain", **settings)
    assert f"not compiled: {problem}" in warnings_of(stream)
    assert not compiled
    monkeypatch.setattr(loop, "compiler_problem", lambda *_: "")
    stream, run = learn("compiled", **settings)
    assert not [text for text in warnings_of(stream) if "compiled" in text]
    assert [type(model) for model in compiled] == [Greedy]
    one, other = load_file(plain.last_path), load_file(run.last_path)
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_batches_that_are_read_ahead_come_in_order_and_so_do_errors():
    is_ahead = Event()

    def load(drawn):
        if drawn == 3:
            is_ahead.set()
        if drawn == 7:
            raise DataError("the disk is gone")
        return drawn

    stream = _read_ahead(iter(range(9)), load)
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    assert is_ahead.wait(30)  # nobody has asked for number 3 yet
    assert [next(stream) for _ in range(4)] == [3, 4, 5, 6]
    with pytest.raises(DataError, match="disk is gone"):
        next(stream)
    assert list(_read_ahead(iter([]), load)) == []
