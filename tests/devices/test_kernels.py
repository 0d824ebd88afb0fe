import math
import re

import pytest
import torch
from torch import nn

from napari_ectkd.devices import kernels
from napari_ectkd.devices.choice import choose_device
from napari_ectkd.devices.kernels import Trial, kernel_problem, layout_of, try_kernels
from napari_ectkd.errors import ConfigError, DeviceWarning

CPU, MPS = torch.device("cpu"), torch.device("mps")


@pytest.fixture(autouse=True)
def forgetful():
    """Each test asks anew."""
    kernels.kernel_problem.cache_clear()
    yield
    kernels.kernel_problem.cache_clear()


@pytest.fixture
def wrong(monkeypatch):
    """Be a machine whose convolutions are silently wrong, but for the reference's."""
    right = torch.nn.functional.conv3d

    def conv3d(volumes, *more):
        found = right(volumes, *more)
        return found if volumes.dtype == torch.float64 else found.flip(1)

    monkeypatch.setattr(torch.nn.functional, "conv3d", conv3d)


def test_the_processor_is_right_and_nothing_else_is_changed():
    before = torch.get_rng_state()
    trial = try_kernels(CPU)
    assert trial.is_right
    assert trial.difference < 1e-3
    assert trial.seconds > 0
    assert torch.equal(torch.get_rng_state(), before)
    assert kernel_problem(CPU) == ""


@pytest.mark.usefixtures("wrong")
def test_a_device_that_is_silently_wrong_is_found():
    assert try_kernels(CPU).difference > 0.5
    assert "a small network is wrong by" in kernel_problem(CPU)


def test_a_gradient_that_is_no_number_is_not_right(monkeypatch):
    def broken(device, dtype):
        value = math.nan if dtype == torch.float32 else 1.0
        return [torch.ones(3), torch.full((3,), value)]

    monkeypatch.setattr(kernels, "_gradients", broken)
    assert not try_kernels(CPU).is_right
    assert not Trial(math.nan, 1.0).is_right


def test_a_kernel_that_fails_is_said(monkeypatch):
    def fail(_):
        raise NotImplementedError("no conv3d on MPS\nlong trace")

    monkeypatch.setattr(kernels, "try_kernels", fail)
    assert re.search("operator is missing .*no conv3d", kernel_problem(MPS))


def test_apple_s_gpus_are_only_taken_where_they_are_right(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 2**33)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 2**30)
    monkeypatch.setattr(kernels, "try_kernels", lambda _: Trial(0.001, 1))
    assert choose_device("auto") == choose_device("mps") == MPS
    kernels.kernel_problem.cache_clear()
    monkeypatch.setattr(kernels, "try_kernels", lambda _: Trial(0.9, 1))
    with pytest.warns(DeviceWarning, match="mps is of no use: .* wrong by 90%"):
        assert choose_device("auto") == CPU
    with pytest.raises(ConfigError, match="mps is of no use"):
        choose_device("mps")


def test_layouts_hold_the_same_voxels():
    volumes = torch.arange(2 * 3 * 4**3).reshape(2, 3, 4, 4, 4).float()
    for device in (CPU, torch.device("cuda", 0), MPS):
        assert torch.equal(volumes.to(memory_format=layout_of(device)), volumes)
    assert layout_of(MPS) == torch.contiguous_format  # see its text
    assert nn.Conv3d(2, 2, 3).to(memory_format=layout_of(CPU)).weight.stride()[1] == 1
