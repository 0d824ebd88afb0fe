"""A run handed to a cluster's scheduler by submitit: same folder, same work."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field

from napari_ectkd.cli.worker import QUEUED, RESUME
from napari_ectkd.errors import ConfigError
from napari_ectkd.io.atomic import atomic_path
from napari_ectkd.runs import Run

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission


_GPUS = "CUDA_VISIBLE_DEVICES"


class Submission(BaseModel, frozen=True, extra="forbid"):
    """Where a run is carried out, and with what."""

    processes: int = Field(
        1,
        ge=1,
        le=64,
        description="processes that share each batch, one a GPU; on a cluster, on each "
        "machine",
    )
    submit: Literal["slurm", "local"] | None = Field(
        None,
        description="hand the run to a scheduler and return: slurm, or local to try "
        "the same without one",
    )
    nodes: int = Field(1, ge=1, le=64, description="for slurm: machines")
    gpus: int = Field(
        1, ge=0, le=16, description="for slurm: GPUs on each machine; see --processes"
    )
    partition: str | None = Field(None, description="for slurm: its partition")
    hours: float = Field(
        24.0,
        gt=0,
        description="for a scheduler: hours after which it resumes anew",
    )
    memory_gib: float = Field(
        32.0, gt=0, description="for slurm: memory a machine, GiB"
    )
    cores: int = Field(
        8, ge=1, description="for slurm: processor cores, and threads, a process"
    )

    def check(self) -> None:
        """Raise `ConfigError` if something would do nothing."""
        here = {"processes", "submit"} | ({"hours"} if self.submit else set())
        of_slurm = sorted(self.model_fields_set - here)
        if of_slurm and self.submit != "slurm":
            names = ", ".join(f"--{name.replace('_', '-')}" for name in of_slurm)
            raise ConfigError(
                f"{names}: for --submit slurm alone; several GPUs of this machine are "
                "used by as many --processes"
            )
        if self.submit == "slurm" and 0 < self.gpus < self.processes:
            raise ConfigError(
                f"--processes {self.processes} for {self.gpus} GPUs a machine: each "
                f"process takes one (--gpus {self.processes}), or all compute on "
                "processors (--gpus 0)"
            )


class RunTask:
    """What the cluster's job does; each of its processes calls it.

    One that fails ends with its exit code, which ends the others.

    Parameters
    ----------
    path
        The run's folder, which all machines must see.
    is_resumed
        Whether to go on with its saved state.
    environment
        Variables to set anew: submitit hides GPUs from a job without a scheduler.
    """

    def __init__(
        self,
        path: str,
        is_resumed: bool,
        environment: dict[str, str | None] | None = None,
    ) -> None:
        self.path = path
        self.is_resumed = is_resumed
        self.environment = environment or {}

    def __call__(self) -> int:
        """Carry out the run; return its exit code."""
        from submitit import JobEnvironment
        from submitit.helpers import TorchDistributedEnvironment

        from napari_ectkd.cli import worker

        for name, value in self.environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        # What the submitting machine had idle, its environment says here too.
        if cores := os.environ.get("SLURM_CPUS_PER_TASK"):
            os.environ["OMP_NUM_THREADS"] = cores
        if JobEnvironment().num_tasks > 1:
            # Each process picks its GPU by its number on the machine.
            TorchDistributedEnvironment().export(
                set_cuda_visible_devices=False, overwrite=True
            )
        # A scheduler that begins a job anew by itself, as after a machine has failed,
        # knows only what it was given.
        is_resumed = self.is_resumed or Run(self.path).can_resume()
        code = worker.main([self.path, QUEUED, *([RESUME] if is_resumed else [])])
        if code:
            raise SystemExit(code)
        return code

    def checkpoint(self) -> DelayedSubmission:
        """Return what the scheduler starts again after a time limit or preemption."""
        from submitit.helpers import DelayedSubmission

        can_resume = Run(self.path).can_resume()
        return DelayedSubmission(RunTask(self.path, can_resume, self.environment))


def submit(run: Run, submission: Submission, *, is_resumed: bool) -> dict[str, Any]:
    """Hand a run to the scheduler; return what to know of the job.

    Raises
    ------
    ConfigError
        If submitit is not installed, or the scheduler is not here.
    """
    try:
        import submitit
    except ImportError as error:
        raise ConfigError(
            "submitit hands runs to a cluster and is not installed: "
            "pip install 'napari-ectkd[cluster]'"
        ) from error
    path = run.path.resolve()
    run.cancel_path.unlink(missing_ok=True)  # of an earlier start
    # Its time says which came first, this or the start: by the clock of the same disk.
    _note(run, {"scheduler": submission.submit})
    handed = run.queue_path.stat().st_mtime_ns
    try:
        executor = submitit.AutoExecutor(
            folder=path / "queue", cluster=submission.submit
        )
        executor.update_parameters(name=path.name, **_resources(submission))
        environment = {}
        if submission.submit == "local":
            environment[_GPUS] = os.environ.get(_GPUS)
        job = executor.submit(RunTask(str(path), is_resumed, environment))
    except (RuntimeError, OSError) as error:
        run.queue_path.unlink(missing_ok=True)
        hint = "; --gpus 0 asks for none" if "gres" in str(error) else ""
        raise ConfigError(
            f"the scheduler did not take the run: {str(error).strip()}{hint}"
        ) from error
    facts = {
        "job": str(job.job_id),
        "scheduler": submission.submit,
        "output": str(Path(os.path.relpath(job.paths.stdout, path))),
    }
    _note(run, facts)
    os.utime(run.queue_path, ns=(handed, handed))
    return facts


def _note(run: Run, facts: dict[str, Any]) -> None:
    with atomic_path(run.queue_path) as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n")


def _resources(submission: Submission) -> dict[str, Any]:
    """Return what to ask the scheduler for, in submitit's words."""
    found: dict[str, Any] = {
        "timeout_min": round(60 * submission.hours),
        "nodes": submission.nodes,
        "tasks_per_node": submission.processes,
    }
    if submission.submit == "slurm":
        found["cpus_per_task"] = submission.cores
        found["mem_gb"] = submission.memory_gib
        found["gpus_per_node"] = submission.gpus
        found["slurm_srun_args"] = ["--kill-on-bad-exit=1"]
        if submission.partition:
            found["slurm_partition"] = submission.partition
    return found
