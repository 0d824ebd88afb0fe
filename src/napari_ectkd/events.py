"""What long work says while it runs, and how it is asked to stop.

The core yields events, the command line prints them, a window draws them. Each is a
small frozen value that is one JSON line in a run's event log. `Finished` comes last: a
stream that stops without it has failed or was cancelled, and whoever drove it then
appends `Failed` or `Cancelled` to the log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter

if TYPE_CHECKING:
    from pathlib import Path


class _Event(BaseModel, frozen=True, extra="forbid"):
    def line(self) -> str:
        """Return the event as one line of JSON, without the line's end."""
        return self.model_dump_json()


class Progress(_Event):
    """`done` of `total` steps of a stage are over; `of` names one of several things."""

    kind: Literal["progress"] = "progress"
    stage: str
    done: int
    total: int
    seconds_left: float | None = None
    of: str = ""


class EpochEnd(_Event):
    """One pass over the training picks is over; `metrics` by name (`val_loss`, …).

    Where several networks learn one after the other, the members of an ensemble or of
    generations of them, epochs are counted through all, and `member` is the number of
    the one that learned, from 1; it is 0 for a single model.
    """

    kind: Literal["epoch_end"] = "epoch_end"
    epoch: int
    epochs: int
    metrics: dict[str, float]
    seconds_left: float | None = None
    member: int = 0


class Noted(_Event):
    """Something the user should know; a warning if it may spoil the result."""

    kind: Literal["noted"] = "noted"
    text: str
    is_warning: bool = False


class Saved(_Event):
    """A file or folder was written whole."""

    kind: Literal["saved"] = "saved"
    what: str
    path: str


class Finished(_Event):
    """The work is done; `result` holds its figures."""

    kind: Literal["finished"] = "finished"
    result: dict[str, Any] = Field(default_factory=dict)


class Failed(_Event):
    """The work stopped with an error; `details` is a traceback where it is a bug."""

    kind: Literal["failed"] = "failed"
    message: str
    details: str = ""


class Cancelled(_Event):
    """The work stopped because it was asked to."""

    kind: Literal["cancelled"] = "cancelled"


Event = Annotated[
    Progress | EpochEnd | Noted | Saved | Finished | Failed | Cancelled,
    Field(discriminator="kind"),
]
_EVENT: TypeAdapter[Any] = TypeAdapter(Event)


def parse_event(line: str | bytes) -> Event:
    """Return the event of one JSON line.

    Raises
    ------
    ValueError
        If the line is no event (for example, its writer was killed half-way).
    """
    event: Event = _EVENT.validate_json(line)
    return event


class CancelledError(Exception):
    """Raised by `Cancel.check` once cancelling was asked for."""


class Cancel:
    """A request to stop, looked at once per batch.

    Parameters
    ----------
    path
        A file whose existence is a request too, so that another process (a window,
        or a second shell) can cancel a run that it did not start.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._is_requested = False
        self._path = path

    def request(self) -> None:
        """Ask the work to stop at its next check."""
        self._is_requested = True

    @property
    def is_requested(self) -> bool:
        """Whether somebody asked the work to stop."""
        if not self._is_requested and self._path is not None and self._path.exists():
            self._is_requested = True
        return self._is_requested

    def check(self) -> None:
        """Raise `CancelledError` if somebody asked the work to stop."""
        if self.is_requested:
            raise CancelledError("cancelled")
