"""What a look at this machine found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["good", "note", "bad"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    what
        What was looked at.
    verdict
        `note` is something to know that stops nothing.
    text
        What was found and, where it is not good, what to do.
    """

    what: str
    verdict: Verdict
    text: str
