"""The file formats that a model can be exported to: written, and run again."""

from __future__ import annotations

import json
import logging
import warnings
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

import torch

from napari_ectkd.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy as np
    from torch import Tensor, nn

    Runner = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

FACTS = "ectkd.json"
"""Name of the metadata inside a file of torch.export."""


class Format(Protocol):
    """One file format."""

    suffix: str

    def check_installed(self) -> None:
        """Raise `ConfigError` if packages are missing."""

    def write(
        self,
        path: Path,
        network: nn.Module,
        volumes: Tensor,
        dynamic: dict[int, str],
        facts: dict[str, str],
    ) -> None:
        """Write a network whose input has these axes of any length, by name."""

    def load(self, path: Path) -> Runner:
        """Return a file as a function from volumes to logits and probabilities."""
        ...

    def differs(self, difference: float) -> DataError:
        """Return the error for a file that does not give what the network gives."""
        ...


class Onnx:
    """ONNX, run by onnxruntime."""

    suffix = ".onnx"

    def check_installed(self) -> None:
        """Raise `ConfigError` if packages are missing."""
        missing = [n for n in ("onnx", "onnxruntime", "onnxscript") if not find_spec(n)]
        if missing:
            raise ConfigError(
                f"ONNX needs {', '.join(missing)}: install the extra "
                "(pip install 'napari-ectkd[export]'), or use --format torch"
            )

    def write(
        self,
        path: Path,
        network: nn.Module,
        volumes: Tensor,
        dynamic: dict[int, str],
        facts: dict[str, str],
    ) -> None:
        """Write weights and graph into one file."""
        with _quietly():
            program = torch.onnx.export(
                network,
                (volumes,),
                dynamo=True,
                verbose=False,
                input_names=["volumes"],
                output_names=["logits", "probabilities"],
                dynamic_shapes={"volumes": dynamic},
            )
            if program is None:
                raise RuntimeError("torch.onnx.export returned nothing")
            program.model.producer_name = "napari-ectkd"
            program.model.metadata_props.update(facts)
            program.save(path, external_data=False)

    def load(self, path: Path) -> Runner:
        """Return the file as onnxruntime runs it on the CPU."""
        import onnxruntime

        session = onnxruntime.InferenceSession(
            str(path), providers=["CPUExecutionProvider"]
        )

        def run(volumes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            logits, probabilities = session.run(
                ["logits", "probabilities"], {"volumes": volumes}
            )
            return logits, probabilities

        return run

    def differs(self, difference: float) -> DataError:
        """Return the error for a file that does not give what the network gives."""
        return _differs("onnxruntime", difference)


class TorchExport:
    """The format of `torch.export`, which holds graph and weights but no Python."""

    suffix = ".pt2"

    def check_installed(self) -> None:
        """Do nothing: torch is there."""

    def write(
        self,
        path: Path,
        network: nn.Module,
        volumes: Tensor,
        dynamic: dict[int, str],
        facts: dict[str, str],
    ) -> None:
        """Write the program, the facts beside it in the archive."""
        # Nothing but the batch has a name: the others follow from each other.
        axes = dict.fromkeys(dynamic, torch.export.Dim.DYNAMIC)
        with _quietly(), torch.no_grad():
            program = torch.export.export(
                network, (volumes,), dynamic_shapes={"volumes": axes}
            )
            torch.export.save(
                program, path, extra_files={FACTS: json.dumps(facts, indent=1)}
            )

    def load(self, path: Path) -> Runner:
        """Return the file as torch runs it."""
        with _quietly():
            module = torch.export.load(path).module()

        def run(volumes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            with torch.no_grad():
                logits, probabilities = module(torch.from_numpy(volumes))
            return logits.numpy(), probabilities.numpy()

        return run

    def differs(self, difference: float) -> DataError:
        """Return the error for a file that does not give what the network gives."""
        return _differs("torch.export", difference)


FORMATS: dict[str, Format] = {"onnx": Onnx(), "torch": TorchExport()}


def _differs(runtime: str, difference: float) -> DataError:
    return DataError(
        f"run by {runtime} the exported model gives other logits than the original "
        f"(by up to {difference:.2g}), so that it was not kept; update {runtime}, or "
        "export to the other format (--format)"
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep torch's notes on its own future, and on torchvision, from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        logger.setLevel(level)
