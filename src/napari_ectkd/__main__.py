"""The entry point of `ectkd` and of `python -m napari_ectkd`."""

from __future__ import annotations

import os
import sys

COMPUTING = {"train", "distill", "demo"}
"""Commands whose speed depends on the allocator's settings."""


def main() -> None:
    """Run the command line, in a process with the allocator that computing wants."""
    arguments = sys.argv[1:]
    if COMPUTING.intersection(arguments[:1]) and not {"-h", "--help"} & set(arguments):
        from napari_ectkd.devices import allocator_environment

        settings = allocator_environment()
        if settings:
            command = [sys.executable, "-m", "napari_ectkd", *arguments]
            os.execve(sys.executable, command, os.environ | settings)
    from napari_ectkd.cli.app import run

    sys.exit(run(arguments))


if __name__ == "__main__":
    main()
