"""The processes that train one model together, each on its own share of a batch.

They are started by torchrun, or by SLURM, which say in environment variables who is
who; the engine is torch's own DistributedDataParallel. Accelerate and Lightning Fabric
start and wrap the same, with settings of their own that a run folder would have to
keep too.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import distributed

from napari_ectkd.devices.choice import choose_device
from napari_ectkd.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

T = TypeVar("T")

MEETING = timedelta(minutes=20)
"""How long a process waits until the others have come as far as to the first step."""
PATIENCE = timedelta(hours=2)
"""How long a process waits for the others: the first one validates alone."""


def rank_from_environment() -> int:
    """Return which of the processes this is; 0 for the first, and for a single one."""
    return int(os.environ.get("RANK", "0"))


@dataclass(frozen=True)
class Workers:
    """Who this process is among those that train together.

    Attributes
    ----------
    rank
        0 for the first, which alone logs, validates and saves.
    n
        How many there are.
    """

    rank: int = 0
    n: int = 1

    @classmethod
    def join(cls, device: torch.device) -> Workers:
        """Return who this process is, once all others are there."""
        n = int(os.environ.get("WORLD_SIZE", "1"))
        if n == 1:
            return cls()
        if not distributed.is_initialized():
            _meet(device)
        return cls(distributed.get_rank(), n)

    @property
    def is_first(self) -> bool:
        """Whether this process logs, validates and saves."""
        return self.rank == 0

    def share(self, n_batch: int) -> slice:
        """Return this process's part of a batch; parts differ by one at most."""
        return slice(self.rank * n_batch // self.n, (self.rank + 1) * n_batch // self.n)

    def largest_share(self, n_batch: int) -> int:
        """Return the subtomograms of the process that has most of a batch."""
        return -(-n_batch // self.n)

    def any(self, flag: bool) -> bool:
        """Return whether it holds for any of the processes; all of them must ask."""
        return self.total(float(flag)) > 0

    def wait(self) -> None:
        """Wait until all of the processes have come so far."""
        self.total(0.0)

    def total(self, value: float) -> float:
        """Return the sum over the processes; all of them must ask."""
        if self.n == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64)
        distributed.all_reduce(tensor)
        return float(tensor)

    def first_s(self, value: T) -> T:
        """Return what the first process has; all of them must ask."""
        if self.n == 1:
            return value
        values: list[Any] = [value]
        distributed.broadcast_object_list(values, device=torch.device("cpu"))
        received: T = values[0]
        return received

    def all_of(self, value: T) -> list[T]:
        """Return what each process has, by rank; all of them must ask."""
        if self.n == 1:
            return [value]
        values: list[Any] = [None] * self.n
        distributed.all_gather_object(values, value)
        return values

    def joined(self, share: torch.Tensor, dim: int) -> torch.Tensor:
        """Return the shares of all processes, one after the other; all must ask."""
        return torch.cat(self.all_of(share), dim=dim)

    def agreed(self, dtype: torch.dtype | None) -> torch.dtype | None:
        """Return the type for autocast that suits all processes; all must ask.

        Gradients scaled for half precision and others have no meaningful mean.
        """
        types = self.all_of(dtype)
        if None in types:
            return None
        return torch.float16 if torch.float16 in types else dtype

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return a model whose gradients are averaged over the processes."""
        if self.n == 1:
            return model
        parallel = torch.nn.parallel.DistributedDataParallel
        # Statistics of batch norm are of the whole batch where the device can (CUDA).
        if next(model.parameters()).is_cuda:
            model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return parallel(model)


def _meet(device: torch.device) -> None:
    """Wait for the other processes, and see that they compute on what this one does.

    Raises
    ------
    ConfigError
        If some compute on GPUs and others don't.
    """
    from torch.distributed.rendezvous import rendezvous

    store, rank, n = next(iter(rendezvous("env://", timeout=MEETING)))
    store.set(f"ectkd-device-{rank}", device.type)
    kinds = {store.get(f"ectkd-device-{other}").decode() for other in range(n)}
    if len(kinds) > 1:
        found = " and ".join(sorted(kinds))
        raise ConfigError(
            f"the processes of this run would compute on {found}: say on which "
            "(--device), and see `ectkd doctor` on each machine"
        )
    # Figures meet on the CPU, where one notices at once that another has died.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(
        backend, store=store, rank=rank, world_size=n, timeout=PATIENCE
    )


def leave_workers() -> None:
    """Say goodbye to the other processes, if there are any.

    Not after an error: while others wait for this one, NCCL would wait for them.
    """
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(torch.zeros(1))  # the first to go takes the store along
        distributed.destroy_process_group()


def choose_worker_device(name: str) -> torch.device:
    """Return the device of a name; of several processes each takes its own GPU.

    Raises
    ------
    ConfigError
        If this machine has no such device, or more processes than GPUs.
    """
    local = os.environ.get("LOCAL_RANK")
    is_one_of_several = local is not None and os.environ.get("WORLD_SIZE") != "1"
    is_for_cuda = name == "auto" or name.startswith("cuda")
    if not (is_one_of_several and is_for_cuda and torch.cuda.is_available()):
        return choose_device(name)
    # Under SLURM each process may be shown its own GPU alone, as number 0. The others'
    # are not even looked at, which would take some of their memory.
    n_gpus = torch.cuda.device_count()
    n_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    is_of_slurm = "SLURM_PROCID" in os.environ
    is_of_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    if n_here > n_gpus and (is_of_torchrun or not is_of_slurm):
        raise ConfigError(
            f"{n_here} processes, but {n_gpus} GPUs: each takes one (--processes "
            f"{n_gpus}), or all compute on the processor (--device cpu)"
        )
    index = int(local or 0) % n_gpus
    torch.cuda.set_device(index)
    return choose_device(f"cuda:{index}")
