"""What is needed to go on where a run stopped: one safetensors file, no code in it.

Order, augmentation and dropout of an epoch follow from the seed and the epoch's number,
so that the end of an epoch is a complete state: weights, the optimizer's moments and
the schedule. A run that goes on from there ends with the weights of one never
interrupted.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch

from napari_ectkd.errors import FormatError
from napari_ectkd.io.atomic import atomic_path

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

_MODEL, _MOMENTS = "model.", "moments."


def save_state(
    path: Path,
    model: nn.Module,
    optimizer: Optimizer,
    schedule: LRScheduler,
    facts: dict[str, Any],
) -> None:
    """Write the state at the end of an epoch, with JSON-able facts about the run.

    Raises
    ------
    WriteError
        If it cannot be written.
    """
    from safetensors.torch import save_file

    tensors = {_MODEL + name: t for name, t in model.state_dict().items()}
    state = optimizer.state_dict()
    for number, moments in state["state"].items():
        for name, tensor in moments.items():
            tensors[f"{_MOMENTS}{number}.{name}"] = tensor
    header = {
        "facts": json.dumps(facts),
        "groups": json.dumps(state["param_groups"]),
        "schedule": json.dumps(schedule.state_dict()),
    }
    with atomic_path(path) as temporary:
        save_file(
            {n: t.detach().cpu().contiguous() for n, t in tensors.items()},
            temporary,
            metadata=header,
        )


def load_state(
    path: Path, model: nn.Module, optimizer: Optimizer, schedule: LRScheduler
) -> dict[str, Any]:
    """Put a saved state into model, optimizer and schedule; return its facts.

    Raises
    ------
    FormatError
        If it is broken, or of another model.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        model.load_state_dict(_with_prefix(tensors, _MODEL))
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in _with_prefix(tensors, _MOMENTS).items():
            number, name = key.split(".", 1)
            moments.setdefault(int(number), {})[name] = tensor
        optimizer.load_state_dict(
            {"state": moments, "param_groups": json.loads(header["groups"])}
        )
        schedule.load_state_dict(json.loads(header["schedule"]))
        facts: dict[str, Any] = json.loads(header["facts"])
    except (
        SafetensorError,
        OSError,
        RuntimeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise FormatError(
            f"{path}: cannot be resumed ({error}); start a new run"
        ) from error
    return facts


def seed_epoch(seed: int, epoch: int) -> torch.Generator:
    """Return the generator of one epoch, and seed torch's own for dropout.

    Parameters
    ----------
    seed
        Of the run.
    epoch
        From 1; 0 for what comes before the first.
    """
    combined = (seed * 1_000_003 + epoch) % 2**63
    torch.manual_seed(combined)
    return torch.Generator().manual_seed(combined)


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
