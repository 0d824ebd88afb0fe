"""The folder of a run: a job that makes a model.

It holds `config.json`, `best.safetensors`, `last.safetensors` and, while unfinished,
`resume.safetensors` too; besides, what the run depended on (`environment.json`), what
the network saw (`examples.npz`), and a model card. The run of an ensemble has one such
folder a member in it, and that of a teacher of a later generation also those before it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from napari_ectkd.errors import ConfigError, FileMissingError, FormatError
from napari_ectkd.io.atomic import atomic_path, make_folder
from napari_ectkd.jobs import JobFolder

if TYPE_CHECKING:
    from pathlib import Path

MEMBER = "member-"
"""What the folders of an ensemble's members are called, before their number."""


def members_of(path: Path) -> list[Path]:
    """Return the folders of an ensemble's members; the path itself of anything else.

    Raises
    ------
    ConfigError
        If the ensemble has not finished.
    """
    members = Run(path).members() if path.is_dir() else []
    if members and not Run(path).best_path.exists():
        raise ConfigError(
            f"{path}: its members have not all learned yet; go on with it (--resume), "
            "or name one of them"
        )
    return [member.path for member in members] or [path]


class Run(JobFolder):
    """The folder of one run; holds no state but its path."""

    @property
    def best_path(self) -> Path:
        """The model to use: of lowest validation loss, or learned from all labels."""
        return self.path / "best.safetensors"

    @property
    def validated_path(self) -> Path:
        """The checkpoint that the figures are of, if another learned from all."""
        return self.path / "validated.safetensors"

    @property
    def on_all(self) -> Run:
        """The unfinished run of a model that learns from all labels, inside this."""
        return Run(self.path / "all-labels")

    @property
    def last_path(self) -> Path:
        """The checkpoint of the last epoch."""
        return self.path / "last.safetensors"

    @property
    def resume_path(self) -> Path:
        """What is needed to go on where the run stopped."""
        return self.path / "resume.safetensors"

    @property
    def examples_path(self) -> Path:
        """What the network sees: slices of some augmented subtomograms."""
        return self.path / "examples.npz"

    @property
    def environment_path(self) -> Path:
        """Versions, device and threads, and the data's fingerprint."""
        return self.path / "environment.json"

    @property
    def card_path(self) -> Path:
        """The model card, in Markdown; the same as JSON is beside it."""
        return self.path / "model_card.md"

    @property
    def baseline(self) -> Run:
        """The run of the same student on labels alone, inside a distillation's."""
        return Run(self.path / "labels-alone")

    @property
    def result_path(self) -> Path:
        """The result of a run inside another's, which has no event log of its own."""
        return self.path / "result.json"

    @property
    def search_path(self) -> Path:
        """The tuner's journal, of a run that searches for the smallest student."""
        return self.path / "search.journal"

    @property
    def config_path(self) -> Path:
        """The settings that the run was started with."""
        return self.path / "config.json"

    def create(self, config: dict[str, Any]) -> None:
        """Make the folder and write the settings (JSON values) into it.

        A run that ended before it saved anything, say since its data was not there, is
        begun anew; its log goes on.

        Raises
        ------
        ConfigError
            If there is a run in it already.
        WriteError
            If it cannot be written.
        """
        if self.path.is_file():
            raise ConfigError(f"{self.path} is a file; name a new folder for the run")
        saved = self.best_path.exists() or self.last_path.exists()
        if saved or self.can_resume() or self.is_elsewhere():
            raise ConfigError(
                f"{self.path} holds a run already; name a new folder, or go on with "
                "that run (--resume)"
            )
        make_folder(self.path)
        self.environment_path.unlink(missing_ok=True)  # of a run that saved nothing
        self.keep_config(config)

    def keep_config(self, config: dict[str, Any]) -> None:
        """Write the settings (JSON values).

        Raises
        ------
        WriteError
            If they cannot be written.
        """
        with atomic_path(self.config_path) as temporary:
            temporary.write_text(json.dumps(config, indent=1) + "\n")

    def members(self) -> list[Run]:
        """Return the runs of an ensemble's members in order; of a model, none."""
        numbered = [
            (int(path.name.removeprefix(MEMBER)), path)
            for path in self.path.glob(f"{MEMBER}*")
            if path.is_dir() and path.name.removeprefix(MEMBER).isdigit()
        ]
        return [Run(path) for _, path in sorted(numbered)]

    def member(self, number: int) -> Run:
        """Return the run of one member of an ensemble, from 1."""
        return Run(self.path / f"{MEMBER}{number}")

    def generation(self, number: int) -> Run:
        """Return the run of an earlier generation of teachers, from 1, inside this."""
        return Run(self.path / f"generation-{number}")

    def keep_result(self, result: dict[str, Any]) -> None:
        """Keep the result of a run inside another's.

        Raises
        ------
        WriteError
            If it cannot be written.
        """
        with atomic_path(self.result_path) as temporary:
            temporary.write_text(json.dumps(result) + "\n")

    def kept_result(self) -> dict[str, Any] | None:
        """Return what `keep_result` kept; None while the run is not over."""
        if not (self.result_path.exists() and self.best_path.exists()):
            return None
        result: dict[str, Any] = json.loads(self.result_path.read_text())
        return result

    def can_resume(self) -> bool:
        """Return whether there is a state to go on from."""
        # Of an ensemble, what is over is there, and what is not may begin anew.
        in_parts = bool(self.members()) or self.search_path.exists()
        in_parts = in_parts or self.baseline.path.exists()
        in_parts = in_parts or self.generation(1).path.exists()
        in_parts = in_parts and not self.best_path.exists()
        return self.resume_path.exists() or self.on_all.path.exists() or in_parts

    def check_resumable(self) -> None:
        """Raise if there is no state to go on from.

        Raises
        ------
        FileMissingError
            If the run finished, or saved nothing.
        """
        if not self.can_resume():
            raise FileMissingError(
                f"{self.path}: nothing to resume; the run finished, or had not come to "
                "the end of an epoch: start a new one"
            )

    def config(self) -> dict[str, Any]:
        """Return the settings that the run was started with.

        Raises
        ------
        FileMissingError
            If the folder is no run.
        FormatError
            If the file is broken.
        """
        try:
            config = json.loads(self.config_path.read_text())
        except OSError as error:
            raise FileMissingError(
                f"{self.path}: no run (no config.json in it)"
            ) from error
        except ValueError as error:
            raise FormatError(f"{self.config_path}: broken JSON ({error})") from error
        if not isinstance(config, dict):
            raise FormatError(f"{self.config_path}: broken, these are no settings")
        return config
