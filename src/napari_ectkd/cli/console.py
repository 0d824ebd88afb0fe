"""Events and results for people, on the error stream; JSON on the output."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from napari_ectkd.events import EpochEnd, Noted, Progress, Saved

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import TaskID

    from napari_ectkd.events import Event

SECONDS_BETWEEN_LINES = 10.0
"""How often progress is printed where there is no terminal to draw a bar on."""


class Console:
    """Shows the events of one command; a context, so that the bar goes at the end.

    Parameters
    ----------
    is_json
        Whether results are to be one JSON value on the output, and nothing else.
    """

    def __init__(self, *, is_json: bool = False) -> None:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.is_json = is_json
        self._err = RichConsole(stderr=True, highlight=False, soft_wrap=True)
        self._out = RichConsole(highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:g}/{task.total:g}"),
            TimeRemainingColumn(),
            console=self._err,
            transient=True,
            disable=not self._err.is_terminal,
        )
        self._task: TaskID | None = None
        self._stage = ""
        self._last_line = time.monotonic()

    def __enter__(self) -> Console:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def show(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Progress):
            self._progress(event)
        elif isinstance(event, EpochEnd):
            self._err.print(_epoch_line(event), markup=False)
            self._last_line = time.monotonic()
        elif isinstance(event, Noted):
            if event.is_warning:
                self._err.print("[yellow]warning:[/yellow] ", end="")
            self._err.print(event.text, markup=False)
        elif isinstance(event, Saved):
            self._err.print(f"{event.what}: {event.path}", markup=False)

    def error(self, text: str) -> None:
        """Show what went wrong, in one line."""
        self._err.print("[red]error:[/red] ", end="")
        self._err.print(" ".join(text.split()), markup=False)

    def say(self, text: str) -> None:
        """Show a line about what is going on."""
        self._err.print(text, markup=False)

    def result(self, values: dict[str, Any]) -> None:
        """Print a result as JSON, if that was asked for."""
        if self.is_json:
            sys.stdout.write(json.dumps(values) + "\n")
            sys.stdout.flush()

    def report(self, report: dict[str, Any], title: str) -> None:
        """Print scores by class as a table."""
        rows = [
            [
                name,
                *(f"{scores[key]:.3f}" for key in ("precision", "recall", "f1")),
                str(scores["support"]),
            ]
            for name, scores in report["classes"].items()
        ]
        self.table(title, ["class", "precision", "recall", "F1", "number"], rows)
        self._print(
            f"accuracy {report['accuracy']:.3f}   macro F1 {report['macro_f1']:.3f}"
        )

    def table(self, title: str, columns: list[str], rows: list[list[str]]) -> None:
        """Print a table, numbers right-aligned; the first column's names stay whole."""
        from rich import box
        from rich.table import Table

        table = Table(title=title, title_justify="left", box=box.SIMPLE)
        for index, column in enumerate(columns):
            is_text = any(row[index][:1].isalpha() for row in rows)
            table.add_column(
                column,
                justify="left" if is_text or not index else "right",
                no_wrap=not index,
            )
        for row in rows:
            table.add_row(*row)
        self._print(table)

    def _print(self, value: object) -> None:
        if not self.is_json:
            self._out.print(value)

    def _progress(self, event: Progress) -> None:
        stage = f"{event.stage} {event.of}".rstrip()
        if self._err.is_terminal:
            if self._task is None or stage != self._stage:
                if self._task is not None:
                    self._bar.remove_task(self._task)
                self._task = self._bar.add_task(stage, total=event.total)
                self._stage = stage
            self._bar.update(self._task, completed=event.done, total=event.total)
        elif time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self._err.print(f"{stage}: {event.done}/{event.total}", markup=False)


def _epoch_line(event: EpochEnd) -> str:
    """Return an epoch's figures in one line."""
    m = event.metrics
    parts = [
        f"epoch {event.epoch}/{event.epochs}",
        f"loss {m['loss']:.3f}",
        f"accuracy {m['accuracy']:.3f}",
    ]
    if "val_loss" in m:
        parts += [
            f"validation loss {m['val_loss']:.3f}",
            f"accuracy {m['val_accuracy']:.3f}",
        ]
    if "teacher_val_accuracy" in m:
        parts.append(f"(teacher {m['teacher_val_accuracy']:.3f})")
    if event.seconds_left is not None:
        parts.append(f"{event.seconds_left:.0f} s left")
    return "  ".join(parts)
