"""The shape of the package: who may import whom, and what that loads."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import napari_ectkd

ROOT = Path(napari_ectkd.__file__).parent
STAGES = [
    "io",
    "simulation",
    "picking",
    "dataset",
    "models",
    "evaluation",
    "training",
    "distillation",
    "prediction",
    "refinement",
]
SHARED = ["errors", "events", "devices", "jobs", "runs"]
"""Modules that serve everyone."""
WINDOW = {"napari", "qtpy", "superqt", "magicgui", "pyqtgraph", "PyQt6", "PySide6"}
MODULES = sorted(ROOT.rglob("*.py"))
NAMES = [
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(
        ".__init__"
    )
    for path in MODULES
]


def imports(path):
    """Absolute names that a module imports anywhere, with whether lazily."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lazy = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in lazy
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", id(node) in lazy


def part_of(name):
    """`io`, `cli`, `runs`, … of a module's absolute name; None of other packages."""
    first, *rest = name.split(".")
    if first != "napari_ectkd":
        return None
    return rest[0] if rest else ""


def test_there_is_something_to_check():
    assert {part_of(name) for name in NAMES} >= {*STAGES, *SHARED, "cli", "gui"}
    found = dict(imports(ROOT / "dataset" / "from_picks.py"))
    assert found["napari_ectkd.io.star.read_picks"] is False
    assert dict(imports(ROOT / "io" / "star_tables.py"))["starfile"] is True


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_arrows(path):
    name = NAMES[MODULES.index(path)]
    here = part_of(name)
    for imported, is_lazy in imports(path):
        there = part_of(imported)
        says = f"{name} imports {imported}"
        if imported.split(".")[0] in WINDOW:
            assert here == "gui", says
        if there is None or there == here:
            continue
        if there == "gui":
            assert here == "cli", says
            assert is_lazy, says
            assert imported.startswith("napari_ectkd.gui.view"), says
        elif there == "cli":
            assert here == "__main__", says
        elif here in STAGES and there in STAGES:
            assert STAGES.index(there) < STAGES.index(here), says
        elif here in SHARED:
            # Files are written whole or not at all; else they stand on each other.
            is_atomic = imported.startswith("napari_ectkd.io.atomic")
            is_of_io = is_atomic and here in ("jobs", "runs")
            is_earlier = there in SHARED[: SHARED.index(here)]
            assert is_of_io or is_earlier, says
            assert here not in ("errors", "events"), says


def test_no_circles_between_shared_modules():
    for name in ("errors", "events"):
        assert {part_of(i) for i, _ in imports(ROOT / f"{name}.py")} <= {None}


def loaded(*statements):
    """Top-level packages that are loaded after statements in a process of its own."""
    code = "\n".join(
        [
            *statements,
            "import sys, json",
            "print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))",
        ]
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_loads_nothing_heavy():
    found = loaded("import napari_ectkd")
    assert not found & {"torch", "napari", "numpy", "pydantic", "qtpy"}


def test_importing_the_core_loads_no_window():
    core = [n for n in NAMES if part_of(n) not in ("gui", "__main__")]
    assert len(core) > 50
    found = loaded(*(f"import {name}" for name in core))
    assert not found & WINDOW
    assert "torch" in found  # so that the check can fail


def test_opening_the_window_loads_no_torch():
    """Which takes seconds, in which nobody could click."""
    gui = [n for n in NAMES if part_of(n) == "gui"]
    assert len(gui) > 50
    found = loaded(*(f"import {name}" for name in gui))
    assert "qtpy" in found
    assert not found & {"torch", "triton"}


def test_settings_and_the_command_line_load_no_torch():
    light = [n for n in NAMES if n.endswith(".config")]
    assert len(light) == 7
    light += [
        "napari_ectkd.cli.app",
        "napari_ectkd.models.registry",
        "napari_ectkd.jobs",
        "napari_ectkd.runs",
    ]
    found = loaded(*(f"import {name}" for name in light))
    assert not found & {"torch", "scipy", *WINDOW}


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["train", "--help"], ["distill", "--help"], ["--version"], ["models"]],
)
def test_help_loads_neither_torch_nor_napari(arguments):
    found = loaded(
        "from napari_ectkd.cli.app import run",
        f"assert run({arguments!r}) == 0",
    )
    assert not found & WINDOW
    assert ("torch" in found) == (arguments == ["models"])


def test_modules_are_named_for_what_they_hold():
    stems = {path.stem for path in MODULES}
    assert not stems & {"utils", "util", "helpers", "common", "manager", "misc"}
    # Past 350 lines, look for the second idea.
    long = {
        str(path.relative_to(ROOT)): n
        for path in MODULES
        if (n := len(path.read_text(encoding="utf-8").splitlines())) > 600
    }
    assert not long
