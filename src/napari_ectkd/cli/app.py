"""The commands of `ectkd` held together."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from cyclopts import App

from napari_ectkd.cli import (
    demo,
    export_commands,
    learn_commands,
    refine_commands,
    report_commands,
    run_commands,
    simulate_commands,
    sweep_commands,
    tomogram_commands,
)
from napari_ectkd.cli.exit_codes import exit_code

if TYPE_CHECKING:
    from collections.abc import Sequence


def make_app() -> App:
    """Return the app with all its commands."""
    app = App(
        name="ectkd",
        help="Classify cryo-ET subtomograms: simulate, pick, train, distill, classify.",
        version=lambda: version("napari-ectkd"),
        help_flags=["--help", "-h"],
    )
    simulate = App(
        name="simulate", help="Simulate subtomograms or a tomogram, with their truth."
    )
    simulate.command(simulate_commands.simulate_subtomograms, name="subtomograms")
    simulate.command(simulate_commands.write_settings, name="settings")
    simulate.command(simulate_commands.simulate_tomogram, name="tomogram")
    app.command(simulate)
    runs = App(
        name="runs",
        help="List runs, write their models as files, delete them.",
        help_flags=["-h", "--help"],
    )
    runs.default(run_commands.list_runs)
    runs.command(run_commands.export)
    runs.command(run_commands.delete)
    app.command(runs)
    for command in (
        tomogram_commands.pick,
        learn_commands.train,
        learn_commands.distill,
        learn_commands.suspects,
        tomogram_commands.classify,
        sweep_commands.sweep,
        refine_commands.refine,
        report_commands.test,
        report_commands.evaluate,
        report_commands.models,
        run_commands.doctor,
        export_commands.export,
        tomogram_commands.view,
        demo.demo,
    ):
        app.command(command)
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code."""
    return exit_code(
        lambda: make_app()(
            list(arguments),
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
    )
