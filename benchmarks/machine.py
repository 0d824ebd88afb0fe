"""On what, and with which state of the project, figures were measured."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path


def commit(folder: Path = Path(__file__).parent) -> str:
    """Return the commit of the project in a folder, `-dirty` if files differ."""
    return subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()


def processor() -> str:
    """Return the number of cores and the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return f"{os.cpu_count()} × {names[0]}" if names else platform.machine()
