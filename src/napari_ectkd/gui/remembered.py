"""What follows from picks, found once for all who ask: picks do not change."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_ectkd.io.picks import Picks

MOST = 16
"""Picks whose answers are kept: those of the open tomograms, hardly of all undo steps,
each of which would hold some megabytes."""

P = ParamSpec("P")
T = TypeVar("T")


def remembered(
    function: Callable[Concatenate[Picks, P], T],
) -> Callable[Concatenate[Picks, P], T]:
    """Return a function that keeps its last answer for each picks.

    It is given again for the very same arguments: these must not be changed in place,
    and neither must the answer.
    """
    answers: WeakKeyDictionary[Picks, tuple[tuple[Any, ...], T]] = WeakKeyDictionary()

    @wraps(function)
    def ask(picks: Picks, *args: P.args, **kwargs: P.kwargs) -> T:
        given = (*args, *kwargs.values())
        known = answers.get(picks)
        if known is not None and _is_same(known[0], given):
            return known[1]
        answer = function(picks, *args, **kwargs)
        while len(answers) >= MOST:
            answers.pop(next(iter(answers.keys())), None)
        answers[picks] = given, answer
        return answer

    return ask


def _is_same(before: tuple[Any, ...], now: tuple[Any, ...]) -> bool:
    return len(before) == len(now) and all(
        a is b for a, b in zip(before, now, strict=True)
    )
