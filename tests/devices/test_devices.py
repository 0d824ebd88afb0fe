from contextlib import nullcontext

import psutil
import pytest
import torch

from napari_ectkd.devices import choice, environment, kernels, memory
from napari_ectkd.devices.choice import Device, choose_device, list_devices
from napari_ectkd.devices.compiler import compiler_problem
from napari_ectkd.devices.cuda import Cuda
from napari_ectkd.devices.environment import (
    ALLOCATOR,
    allocator_environment,
    mps_environment,
)
from napari_ectkd.devices.kernels import Trial
from napari_ectkd.devices.memory import is_out_of_memory, used_memory
from napari_ectkd.devices.precision import choose_precision
from napari_ectkd.errors import ConfigError, DeviceWarning
from napari_ectkd.events import Cancel
from napari_ectkd.training import doctor
from napari_ectkd.training.workers import choose_worker_device

CPU = torch.device("cpu")


def test_the_processor_is_always_there_and_last():
    found = list_devices()
    assert found[-1].name == "cpu"
    assert 0 < found[-1].free_bytes <= psutil.virtual_memory().total
    assert len({device.name for device in found}) == len(found)


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


@pytest.fixture
def two_gpus(monkeypatch):
    """Be a machine with two GPUs; return which of them had to compute."""
    tried = []

    def try_kernels(device):
        tried.append(str(device))
        return Trial(0.001, 1)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    monkeypatch.setattr(kernels, "try_kernels", try_kernels)
    unkept = kernels.kernel_problem.__wrapped__
    monkeypatch.setattr(kernels, "kernel_problem", unkept)
    return tried


def test_cuda_alone_is_the_first_one(two_gpus, monkeypatch):
    # Asking a GPU for its memory takes some of it.
    monkeypatch.delattr(torch.cuda, "mem_get_info")
    assert choose_device("cuda") == torch.device("cuda:0")
    assert choose_device("cuda:1") == torch.device("cuda:1")
    assert choose_device("auto") == torch.device("cuda:0")
    assert two_gpus == ["cuda:0", "cuda:1", "cuda:0"]
    assert choose_device("cpu") == CPU
    assert two_gpus == ["cuda:0", "cuda:1", "cuda:0"]


def test_gpus_are_listed(two_gpus, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (index, 8))
    found = list_devices()
    assert [d.title for d in found][:2] == ["GPU 0", "GPU 1"]
    assert [d.free_bytes for d in found][:2] == [0, 1]
    assert not two_gpus


def test_each_process_takes_its_own_gpu_and_looks_at_no_other(two_gpus, monkeypatch):
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: two_gpus.append(index))
    monkeypatch.setenv("WORLD_SIZE", "4")
    for local, index in (("0", 0), ("1", 1), ("3", 1)):
        monkeypatch.setenv("LOCAL_RANK", local)
        for name in ("auto", "cuda"):
            two_gpus.clear()
            assert choose_worker_device(name) == torch.device("cuda", index)
            assert two_gpus == [index, f"cuda:{index}"]
    assert choose_worker_device("cpu") == CPU


def test_a_gpu_without_kernels_is_not_taken(two_gpus, monkeypatch):
    def fail(_):
        raise RuntimeError("CUDA error: no kernel image is available for execution")

    monkeypatch.setattr(kernels, "try_kernels", fail)
    cuda = Cuda("13.0", "580.1", ("GTX",), True, ("sm_80", "sm_90"))
    monkeypatch.setattr(kernels, "ask_cuda", lambda: cuda)
    with pytest.warns(DeviceWarning, match=r"cuda:0 is of no use: .*sm_80, sm_90"):
        assert choose_device("auto") == CPU
    with pytest.raises(ConfigError, match=r"cuda:1 is of no use.*--device cpu"):
        choose_device("cuda:1")


@pytest.mark.usefixtures("two_gpus")
def test_on_windows_a_gpu_does_not_take_the_machine_s_memory(monkeypatch):
    limits = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (3, 4))
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda *a: limits.append(a)
    )
    stay = memory.stay_in_its_memory.__wrapped__
    monkeypatch.setattr(choice, "stay_in_its_memory", stay)
    choose_device("cuda:1")
    assert not limits
    for system in ("win32", "linux"):
        monkeypatch.setattr(memory.sys, "platform", system)
        choose_device("cuda:1")
        assert limits == [(0.75, torch.device("cuda:1"))]
        limits.clear()
        monkeypatch.setattr("platform.release", lambda: "5.15-microsoft-standard-WSL2")


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("name", "capability", "has_bfloat16", "expected"),
    [
        ("NVIDIA H100 PCIe", (9, 0), True, torch.bfloat16),
        ("NVIDIA TITAN V", (7, 0), False, torch.float16),
        ("Tesla T4", (7, 5), False, torch.float16),
        ("NVIDIA GeForce GTX 1650", (7, 5), False, None),
        ("NVIDIA T1000 8GB", (7, 5), False, None),
        ("NVIDIA GeForce GTX 1080", (6, 1), False, None),
    ],
)
def test_the_precision_that_pays_on_a_gpu(
    monkeypatch, name, capability, has_bfloat16, expected
):
    def is_supported(*, including_emulation):
        assert not including_emulation
        return has_bfloat16

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 92400)
    gpu = torch.device("cuda:0")
    assert choose_precision(gpu, "auto") == expected
    assert choose_precision(gpu, "float16") == torch.float16
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    with pytest.warns(DeviceWarning, match="this cuDNN is slow"):
        assert choose_precision(gpu, "auto") is None


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        RuntimeError("Invalid buffer size: 8.00 GiB"),
        RuntimeError("could not create a primitive"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate"),
    ],
)
def test_what_says_that_memory_is_short(error):
    assert is_out_of_memory(error)


def test_what_does_not():
    assert not is_out_of_memory(RuntimeError("CUDA error: illegal memory access"))
    assert not is_out_of_memory(ValueError("out of memory"))


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

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 8 if logical else 4)
    monkeypatch.setattr(
        environment.os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4, 5}, raising=False
    )

    def threads(*percent):
        monkeypatch.setattr(psutil, "cpu_percent", lambda **_: list(percent))
        return environment.thread_environment()["OMP_NUM_THREADS"]

    # Six of eight logical cores are ours, two to a physical one.
    assert threads(0, 0, 0, 0, 0, 0, 100, 100) == "3"
    assert threads(100, 100, 0, 0, 0, 0, 0, 0) == "2"
    assert threads(*[100] * 8) == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert environment.thread_environment() == {}


def test_over_several_gpus_nothing_is_compiled():
    assert "several GPUs" in compiler_problem(torch.device("cuda", 0), 2)
    assert "several" not in compiler_problem(CPU, 2)


def test_what_compiling_for_a_gpu_needs(monkeypatch):
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert compiler_problem(gpu) == "Triton is not installed"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (6, 1))
    assert "too old" in compiler_problem(gpu)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert "no C compiler" in compiler_problem(gpu)
    monkeypatch.setattr("shutil.which", lambda name: name)
    assert compiler_problem(gpu) == ""
