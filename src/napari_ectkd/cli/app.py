"""The commands of `ectkd` held together, and exit codes for what may go wrong."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

from cyclopts import App
from cyclopts.exceptions import CycloptsError
from pydantic import ValidationError

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
from napari_ectkd.errors import EctkdError
from napari_ectkd.events import CancelledError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GOOD, BUG, USER_ERROR, CANCELLED = 0, 1, 2, 130


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
    """Run one command; return its exit code.

    0 is good, 2 an error of the user's (shown in one line), 130 cancelled, 1 a bug
    (shown with its traceback).
    """
    return exit_code(
        lambda: make_app()(
            list(arguments),
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
    )


def exit_code(work: Callable[[], object]) -> int:
    """Do some work; return its exit code, having shown what went wrong."""
    try:
        work()
    except CycloptsError as error:
        return _fail(_one_line(error))
    except EctkdError as error:
        return _fail(str(error))
    except (CancelledError, KeyboardInterrupt):
        sys.stderr.write("cancelled\n")
        return CANCELLED
    return GOOD


def _fail(text: str) -> int:
    from napari_ectkd.cli.console import Console

    Console().error(text)
    return USER_ERROR


def _one_line(error: CycloptsError) -> str:
    """Return what is wrong with the arguments, naming the option."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ValidationError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return f"{error} (see --help)"
    problems = []
    for problem in cause.errors():
        text = problem["msg"].removeprefix("Value error, ")
        if problem["loc"]:  # else it is about several options, which it names
            option = str(problem["loc"][0]).replace("_", "-")
            text = f"--{option}: {text}, not {problem['input']!r}"
        problems.append(text)
    return "; ".join(problems)
