import psutil
import pytest
import torch

from napari_ectkd.devices import (
    ALLOCATOR,
    Device,
    allocator_environment,
    choose_device,
    choose_precision,
    compiler_problem,
    list_devices,
    mps_environment,
    used_memory,
)
from napari_ectkd.errors import ConfigError
from napari_ectkd.events import Cancel
from napari_ectkd.training import doctor
from napari_ectkd.training.cuda import Cuda

CPU = torch.device("cpu")


def test_the_processor_is_always_there_and_last():
    devices = list_devices()
    assert devices[-1].name == "cpu"
    assert 0 < devices[-1].free_bytes <= psutil.virtual_memory().total
    assert len({device.name for device in devices}) == len(devices)


def test_auto_is_the_first_of_the_list():
    assert str(choose_device("auto")) == list_devices()[0].name


def test_each_listed_device_can_be_chosen():
    for device in list_devices():
        assert str(choose_device(device.name)) == device.name


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "", "cpu:3", "meta"])
def test_a_device_that_is_not_there_is_an_error(name):
    with pytest.raises(ConfigError, match=r"no device .*it has .*cpu") as error:
        choose_device(name)
    assert "\n" not in str(error.value)


def test_cuda_alone_is_the_first_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (index, 8))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    assert choose_device("cuda") == torch.device("cuda:0")
    assert choose_device("cuda:1") == torch.device("cuda:1")
    assert choose_device("auto") == torch.device("cuda:0")
    assert [d.title for d in list_devices()][:2] == ["GPU 0", "GPU 1"]


@pytest.fixture
def old_driver(monkeypatch):
    """Be a machine with a GPU whose driver is too old for this torch."""

    def fail(*_):
        raise RuntimeError("The NVIDIA driver on your system is too old")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", fail)
    monkeypatch.setattr(torch.cuda, "get_device_name", fail)


@pytest.mark.usefixtures("old_driver")
def test_with_a_driver_that_is_too_old_the_processor_computes():
    assert [device.name for device in list_devices()] == ["cpu"]
    assert choose_device("cpu") == choose_device("auto") == CPU


@pytest.mark.usefixtures("old_driver")
def test_a_driver_that_is_too_old_is_explained(monkeypatch):
    cuda = Cuda("13.0", "470.2", ("GTX",), False, problem="driver ... too old")
    monkeypatch.setattr(doctor, "ask_cuda", lambda: cuda)
    monkeypatch.setattr(doctor, "_window", list)
    *_, last = doctor.examine(cancel=Cancel())
    [found] = [f for f in last.result["findings"] if f["verdict"] == "bad"]
    assert "update the driver" in found["text"]
    assert not last.result["is_good"]


def test_a_gpu_that_is_full_is_listed(monkeypatch):
    def fail(_):
        raise torch.OutOfMemoryError("CUDA error: out of memory")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    monkeypatch.setattr(torch.cuda, "mem_get_info", fail)
    assert list_devices()[0] == Device("cuda:0", "GPU 0", None)
    assert choose_device("cpu") == CPU


def test_apple_s_gpu_comes_with_its_memory_and_its_fallback(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 12)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 5)
    assert list_devices()[-2] == Device("mps", "Apple GPU", 7)
    assert used_memory(torch.device("mps")) == 5
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.delenv("PYTORCH_ENABLE_MPS_FALLBACK", raising=False)
    assert mps_environment() == {"PYTORCH_ENABLE_MPS_FALLBACK": "1"}
    monkeypatch.setenv("PYTORCH_ENABLE_MPS_FALLBACK", "0")
    assert mps_environment() == {}


def test_precision():
    assert choose_precision(CPU, "float32") is None
    assert choose_precision(CPU, "bfloat16") == torch.bfloat16


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": False}, None),
        ({}, None),
    ],
)
def test_auto_takes_bfloat16_where_the_processor_has_it(monkeypatch, found, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert choose_precision(CPU, "auto") == expected


def test_the_allocators_environment(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    assert allocator_environment() == {"GLIBC_TUNABLES": ALLOCATOR}
    monkeypatch.setenv("GLIBC_TUNABLES", "x=1")
    assert allocator_environment() == {}  # also what stops a loop of restarts
    monkeypatch.delenv("GLIBC_TUNABLES")
    monkeypatch.setattr("sys.platform", "darwin")
    assert allocator_environment() == {}


def test_threads_are_as_many_as_cores_are_idle(monkeypatch):
    import psutil

    from napari_ectkd import devices

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 8 if logical else 4)
    monkeypatch.setattr(
        devices.os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4, 5}, raising=False
    )

    def threads(*percent):
        monkeypatch.setattr(psutil, "cpu_percent", lambda **_: list(percent))
        return devices.thread_environment()["OMP_NUM_THREADS"]

    # Six of eight logical cores are ours, two to a physical one.
    assert threads(0, 0, 0, 0, 0, 0, 100, 100) == "3"
    assert threads(100, 100, 0, 0, 0, 0, 0, 0) == "2"
    assert threads(*[100] * 8) == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert devices.thread_environment() == {}


def test_over_several_gpus_nothing_is_compiled():
    assert "several GPUs" in compiler_problem(torch.device("cuda", 0), 2)
    assert "several" not in compiler_problem(torch.device("cuda", 0), 1)
    assert "several" not in compiler_problem(CPU, 2)
