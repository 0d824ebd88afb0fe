"""The entry point of `ectkd` and of `python -m napari_ectkd`."""

from __future__ import annotations

import os
import sys

COMPUTING = {
    "doctor",
    "suspects",
    "simulate",
    "pick",
    "train",
    "distill",
    "classify",
    "sweep",
    "refine",
    "test",
    "demo",
}
"""Commands whose speed depends on threads; see `devices.environment`."""
ALLOCATING = {"train", "suspects", "distill", "sweep", "refine", "demo"}
"""Commands whose speed depends on the allocator's settings too."""


def main() -> None:
    """Run the command line, with the threads and the allocator that computing wants."""
    arguments = sys.argv[1:]
    command = set(arguments[:1])
    if command & COMPUTING and not {"-h", "--help"} & set(arguments):
        from napari_ectkd.devices.environment import (
            allocator_environment,
            mps_environment,
            thread_environment,
        )

        os.environ.update(thread_environment() | mps_environment())
        settings = allocator_environment() if command & ALLOCATING else {}
        if settings:  # they count from a process's start
            again = [sys.executable, "-m", "napari_ectkd", *arguments]
            os.execve(sys.executable, again, os.environ | settings)
    from napari_ectkd.cli.app import run

    sys.exit(run(arguments))


if __name__ == "__main__":
    main()
