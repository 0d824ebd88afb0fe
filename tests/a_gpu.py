"""A GPU that is none: tensors that claim to be on `cuda`, with the processor behind.

What a GPU forbids is an error here too: computing with tensors of two devices, indexing
the processor's with the GPU's, drawing with a generator of the other, making an array
of a tensor that was not brought back, and on Apple's any float64. Its memory is
counted, with all that autograd keeps, and runs out where it is given a limit. Half
precision computes as the processor does; speed, kernels, pinned memory and drivers are
beyond it.

The tensors are wrappers that C++ takes for the processor's, so that autograd works in a
torch without CUDA. What is asked of the GPU travels down to `__torch_dispatch__` as if
asked of `meta`, which no torch refuses.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from threading import RLock
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

Kind = Literal["cuda", "mps"]

_META = torch.device("meta")
_CPU = torch.device("cpu")
_ATEN = torch.ops.aten
MIXED_DEVICES = r"same device|indices should be|[Gg]enerator"
"""What torch says of tensors of two devices."""
_MOVES = (_ATEN._to_copy.default, _ATEN.copy_.default)
_TAKES_INDICES = (
    *(_ATEN.index.Tensor, _ATEN._unsafe_index.Tensor),
    *(_ATEN.index_put_.default, _ATEN._index_put_impl_.default),
)


class Memory:
    """The pretended GPU's: bytes in use, the most there were, and how many may be."""

    is_pretended = True

    def __init__(self, kind: Kind) -> None:
        self.device = torch.device(kind, 0)
        self.used = self.peak = 0
        self._limit: int | None = None
        self._holders: dict[int, int] = {}
        self._lock = RLock()

    def take(self, storage: torch.UntypedStorage) -> None:
        """Count a storage, unless one of its tensors has been counted already."""
        key = storage.data_ptr()
        with self._lock:
            if key not in self._holders:
                self.used += storage.nbytes()
                self.peak = max(self.peak, self.used)
            self._holders[key] = self._holders.get(key, 0) + 1

    def give(self, storage: torch.UntypedStorage) -> None:
        """Forget a storage with the last of its tensors."""
        key = storage.data_ptr()
        with self._lock:
            self._holders[key] -= 1
            if not self._holders[key]:
                del self._holders[key]
                self.used -= storage.nbytes()

    def check(self) -> None:
        """Raise what torch raises if more is used than there may be."""
        if self._limit is None or self.used <= self._limit:
            return
        if self.device.type == "mps":
            raise RuntimeError(f"MPS backend out of memory (max: {self._limit})")
        raise torch.OutOfMemoryError(f"CUDA out of memory. {self._limit} bytes in all")

    def limit_to(self, n_bytes: int) -> None:
        """Have no more than that."""
        self._limit = n_bytes


class RealMemory:
    """A real GPU's, in the same terms."""

    is_pretended = False

    def __init__(self, kind: Kind) -> None:
        self.device = torch.device(kind, 0)

    @property
    def peak(self) -> int:
        """The most bytes that torch had at once."""
        if self.device.type == "mps":
            return torch.mps.driver_allocated_memory()
        return torch.cuda.max_memory_reserved(self.device)

    def limit_to(self, n_bytes: int) -> None:
        """Let torch have no more than that."""
        here = torch.mps if self.device.type == "mps" else torch.cuda
        here.empty_cache()
        here.set_per_process_memory_fraction(n_bytes / self._total())

    def lift(self) -> None:
        """Let torch have all of it again."""
        here = torch.mps if self.device.type == "mps" else torch.cuda
        here.set_per_process_memory_fraction(1.0)

    def _total(self) -> int:
        if self.device.type == "mps":
            return torch.mps.recommended_max_memory()
        return torch.cuda.mem_get_info(self.device)[1]


class _Held:
    """A tensor's part of the memory, given back when the tensor is gone."""

    def __init__(self, memory: Memory, inner: torch.Tensor) -> None:
        self.memory, self._storage = memory, inner.untyped_storage()
        memory.take(self._storage)

    def __del__(self) -> None:
        self.memory.give(self._storage)


class OnGpu(torch.Tensor):
    """A tensor on the GPU; `inner` is the one behind it."""

    device = property(lambda tensor: tensor.held.memory.device)
    is_cuda = property(lambda tensor: tensor.device.type == "cuda")
    is_cpu = property(lambda _: False)

    @staticmethod
    def __new__(cls, inner: torch.Tensor, memory: Memory) -> OnGpu:
        found = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
        )
        found.inner, found.held = inner, _Held(memory, inner)
        return found

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError("the pretended GPU has been switched off")


class Generator(torch.Generator):
    """One that remembers which device it draws for."""

    def __new__(cls, device: Any = "cpu") -> Generator:
        return super().__new__(cls)

    def __init__(self, device: Any = "cpu") -> None:
        self._device = torch.device(device)

    @property
    def device(self) -> torch.device:
        """Where it says that it draws."""
        return self._device


class _Compute(TorchDispatchMode):
    """Computes on the processor what is asked of the GPU."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self.brings_back = False
        self._memory = memory
        self._is_apple_s = memory.device.type == "mps"

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = [
            t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)
        ]
        ours = {id(t.inner): t for t in tensors if isinstance(t, OnGpu)}
        device = kwargs.get("device")
        # In autograd's own casts `cpu` is where C++ believes that our tensors are.
        is_on_gpu = bool(ours) and not self.brings_back
        if device is not None:
            is_on_gpu |= device == _META
            kwargs["device"] = _CPU
        if func not in _MOVES:
            _check(func, args, tensors, is_on_gpu=is_on_gpu)

        def behind(value):
            return value.inner if isinstance(value, OnGpu) else value

        def before(value):
            if not isinstance(value, torch.Tensor) or any(value is t for t in tensors):
                return value
            if id(value) in ours:  # changed in place
                return ours[id(value)]
            if is_on_gpu and value.dtype == torch.float64 and self._is_apple_s:
                raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
            return OnGpu(value, self._memory) if is_on_gpu else value

        found = func(*tree_map(behind, args), **tree_map(behind, kwargs))
        result = tree_map(before, found)
        self._memory.check()
        return result


def _check(func, args, tensors, *, is_on_gpu: bool) -> None:
    """Raise if tensors of two devices meet; numbers of the processor may."""
    n_strangers = sum(not isinstance(t, OnGpu) and t.dim() > 0 for t in tensors)
    if func in _TAKES_INDICES:
        if is_on_gpu and not isinstance(args[0], OnGpu):
            raise RuntimeError("indices should be either on cpu or on the same device")
    elif is_on_gpu and 0 < n_strangers < len(tensors):
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two "
            f"devices, the GPU and cpu! ({func})"
        )


class _Requests(TorchFunctionMode):
    """Passes on what is asked of devices in a way that no torch refuses."""

    def __init__(self, compute: _Compute, device: torch.device) -> None:
        super().__init__()
        self._compute, self._device = compute, device

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        is_for_gpu = self._is_ours(kwargs.get("device") or _CPU)
        if name == "to":
            return self._to(*args, **kwargs)
        if name == "cpu":
            return self._to(*args, _CPU)
        if name == "tensor" and is_for_gpu:
            return self._to(func(*args, **kwargs | {"device": None}), self._device)
        is_there = is_for_gpu or any(isinstance(value, OnGpu) for value in args)
        generator = kwargs.get("generator")
        if generator is not None and self._is_ours(generator.device) != is_there:
            raise RuntimeError(f"Expected a generator for the other device ({name})")
        if is_for_gpu:
            kwargs["device"] = _META
        return func(*args, **kwargs)

    def _is_ours(self, device):
        return torch.device(device).type == self._device.type

    def _to(self, tensor, *args, **kwargs):
        if args and isinstance(args[0], torch.Tensor):
            args = (args[0].device, args[0].dtype)
        is_copied = kwargs.pop("copy", False)
        device, dtype, _, layout = torch._C._nn._parse_to(*args, **kwargs)
        device, dtype = device or tensor.device, dtype or tensor.dtype
        is_there = (device.type, dtype) == (tensor.device.type, tensor.dtype)
        is_so = layout is None or tensor.is_contiguous(memory_format=layout)
        if is_there and is_so and not is_copied:
            return tensor
        is_for_gpu = self._is_ours(device)
        self._compute.brings_back = not is_for_gpu
        try:
            return _ATEN._to_copy(
                tensor,
                dtype=dtype,
                device=_META if is_for_gpu else device,
                memory_format=layout,
            )
        finally:
            self._compute.brings_back = False


@contextmanager
def a_gpu(
    monkeypatch: pytest.MonkeyPatch, kind: Kind = "cuda"
) -> Iterator[Memory | RealMemory]:
    """Be a machine with a GPU that torch can use: by itself, or else pretended."""
    has_one = {"cuda": torch.cuda, "mps": torch.backends.mps}[kind].is_available()
    if has_one:
        memory = RealMemory(kind)
        try:
            yield memory
        finally:
            memory.lift()
        return
    memory = Memory(kind)
    with monkeypatch.context() as patch, _pretended(patch, memory):
        yield memory


@contextmanager
def _there(memory: Memory) -> Iterator[None]:
    """Compute on the pretended GPU, in this thread."""
    compute = _Compute(memory)
    with _Requests(compute, memory.device), compute:
        yield


def _say(monkeypatch: pytest.MonkeyPatch, memory: Memory) -> None:
    """Have torch say that the GPU is there."""
    if memory.device.type == "mps":
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
        answers = {
            "recommended_max_memory": 8 * 2**30,
            "driver_allocated_memory": 2**30,
            "empty_cache": None,
            "synchronize": None,
        }
    else:
        monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _: memory.peak)
        answers = {
            "is_available": True,
            "is_initialized": True,
            "device_count": 1,
            "current_device": 0,
            "get_device_name": "Pretended GPU",
            "get_device_capability": (9, 0),
            "is_bf16_supported": True,
            "mem_get_info": (8 * 2**30, 8 * 2**30),
            "get_arch_list": ["sm_90"],
            "device": nullcontext(),
            "empty_cache": None,
            "synchronize": None,
        }
    here = torch.mps if memory.device.type == "mps" else torch.cuda
    for name, answer in answers.items():
        monkeypatch.setattr(here, name, lambda *_, _a=answer, **__: _a)


@contextmanager
def _pretended(monkeypatch: pytest.MonkeyPatch, memory: Memory) -> Iterator[None]:
    autocast = torch.autocast

    def autocast_here(_device_type: str, **settings: Any) -> Any:
        return autocast("cpu", **settings)

    _say(monkeypatch, memory)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    # Whether kernels are being recorded, which a torch with CUDA asks its driver.
    for name in ("_accelerator_graph_capture", "_cuda_graph_capture"):
        check = f"{name}_health_check"
        monkeypatch.setattr(torch.optim.Optimizer, check, lambda _: None, raising=False)
    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr(torch, "autocast", autocast_here)
    # Wrappers cannot be made of tensors without version counters.
    monkeypatch.setattr(torch, "inference_mode", torch.no_grad)
    swaps = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    submit = ThreadPoolExecutor.submit

    def submit_there(self: ThreadPoolExecutor, call: Any, *args: Any, **more: Any):
        def there() -> Any:
            with _there(memory):
                return call(*args, **more)

        return submit(self, there)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", submit_there)
    try:
        with _there(memory):
            yield
    finally:
        torch.__future__.set_swap_module_params_on_conversion(swaps)
