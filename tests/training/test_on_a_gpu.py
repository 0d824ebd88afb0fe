"""Training on a GPU: a real one where there is one, a pretended one elsewhere."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.a_gpu import MIXED_DEVICES, a_gpu
from tests.training.conftest import stopped
from torch import nn

from napari_ectkd.devices.kernels import try_kernels
from napari_ectkd.events import EpochEnd, Finished, Noted
from napari_ectkd.models import teachers
from napari_ectkd.models.registry import MODELS, ModelSpec

EVERYTHING = {
    "noise": 0.3,
    "cutout": 0.5,
    "defocus": 0.3,
    "contrast": 0.2,
    "shift": 2,
    "free_rotations": True,
    "mirror": True,
}


@pytest.fixture(params=["cuda", "mps"])
def gpu(monkeypatch, request):
    with a_gpu(monkeypatch, request.param) as memory:
        yield memory


@pytest.fixture
def plain(monkeypatch):
    """A network without batch normalization, most of whose memory is activations."""
    # A real GPU gives out memory in large blocks.
    is_real = torch.cuda.is_available() or torch.backends.mps.is_available()
    width = 128 if is_real else 8

    def build(n_classes, box_px):
        return nn.Sequential(
            nn.Conv3d(1, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv3d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.AvgPool3d(box_px),
            nn.Flatten(),
            nn.Linear(width, n_classes),
        )

    monkeypatch.setattr(teachers, "plain", build, raising=False)
    spec = ModelSpec("plain", "teacher", "", 8, 1e-3, (teachers.__name__, "plain"))
    monkeypatch.setitem(MODELS, "plain", spec)


def assert_close(run, other, *, rtol=1e-4, atol=1e-5):
    one, two = load_file(run.last_path), load_file(other.last_path)
    for key in one:
        torch.testing.assert_close(two[key], one[key], rtol=rtol, atol=atol)


def warnings_of(events):
    return [e.text for e in events if isinstance(e, Noted) and e.is_warning]


def test_tensors_of_two_devices_do_not_meet(gpu):
    """What the tests below rest on."""
    here = torch.ones(3, 4)
    there = here.to(gpu.device)
    assert there.device == gpu.device
    for wrong in (
        lambda: there + here,
        lambda: here @ there.T,
        lambda: torch.cat([here, there]),
        lambda: here[torch.tensor([0], device=gpu.device)],
        lambda: torch.randn(3, generator=torch.Generator(gpu.device)),
        lambda: torch.randn(3, generator=torch.Generator(), device=gpu.device),
    ):
        with pytest.raises(RuntimeError, match=MIXED_DEVICES):
            wrong()
    with pytest.raises((TypeError, RuntimeError)):
        there.numpy()
    assert (there + here[0, 0]).device == gpu.device  # a number may
    assert there[torch.tensor([0])].device == gpu.device
    if gpu.device.type == "mps":
        with pytest.raises(TypeError, match="float64"):
            there.double()
    np.testing.assert_array_equal((there * 2).cpu().numpy(), 2 * here.numpy())


def test_its_kernels_are_right(gpu):
    assert try_kernels(gpu.device).difference < 0.02


@pytest.mark.parametrize(
    ("kind", "precision"),
    [
        ("cuda", "float32"),
        ("cuda", "bfloat16"),
        ("cuda", "float16"),
        ("mps", "float32"),
        ("mps", "bfloat16"),
    ],
)
def test_a_run_ends_as_on_the_processor(learn, monkeypatch, kind, precision):
    settings = EVERYTHING | {"precision": precision, "epochs": 3, "batch_size": 4}
    stream, here = learn("here", device="cpu", **settings)
    list(stream)
    with a_gpu(monkeypatch, kind) as memory:
        stream, there = learn("there", device=kind, **settings)
        events = list(stream)
    assert isinstance(events[-1], Finished)
    assert not [text for text in warnings_of(events) if "label" not in text]
    losses = [e.metrics["loss"] for e in events if isinstance(e, EpochEnd)]
    assert len(losses) == 3
    assert np.isfinite(losses).all()
    # A real one has other noise and sums in another order, as Apple's layout does.
    if memory.is_pretended and kind == "cuda":
        assert_close(here, there)


def test_a_run_that_is_resumed_ends_as_one_never_interrupted(learn, gpu):
    settings = {"model": "forgetful", "precision": "float16", "epochs": 3}
    settings |= {"batch_size": 4, "validation_fraction": 0, "device": gpu.device.type}
    stream, whole = learn("whole", **settings)
    list(stream)
    part, standing = stopped(learn, "part", **settings)
    assert standing["loss_scale"]["scale"] > 1
    stream, _ = learn("part", is_resumed=True, **settings)
    list(stream)
    assert_close(whole, part, rtol=1e-3)


@pytest.mark.usefixtures("plain")
def test_out_of_memory_on_the_gpu(learn, gpu):
    """What did not fit is really given back, or its halves would not fit either."""
    settings = {"model": "plain", "device": gpu.device.type, "validation_fraction": 0}
    settings |= {"epochs": 2, "batch_size": 16}
    stream, whole = learn("whole", **settings)
    list(stream)
    # A sixteenth of a batch needs far less than a quarter of it all.
    gpu.limit_to(gpu.peak // 3)
    stream, parts = learn("parts", **settings)
    events = list(stream)
    assert isinstance(events[-1], Finished)
    said = [text for text in warnings_of(events) if "out of memory" in text]
    assert said
    assert said[0].startswith("out of memory with 16 subtomograms at once: from now on")
    # Without batch normalization the parts' gradients add up to the same steps.
    assert_close(whole, parts, rtol=1e-2, atol=1e-4)
