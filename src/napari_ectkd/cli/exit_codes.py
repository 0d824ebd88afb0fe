"""Exit codes for what may go wrong, which is said in one line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cyclopts.exceptions import CycloptsError
from pydantic import ValidationError

from napari_ectkd.errors import EctkdError
from napari_ectkd.events import CancelledError

if TYPE_CHECKING:
    from collections.abc import Callable

GOOD, USER_ERROR, CANCELLED = 0, 2, 130


def exit_code(work: Callable[[], object]) -> int:
    """Do some work; return its exit code, having shown what went wrong.

    0 is good, 2 an error of the user's (shown in one line), 130 cancelled. What else is
    raised is a bug: Python shows its traceback, and ends with 1.
    """
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
