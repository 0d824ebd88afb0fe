"""Why something cannot be done with a run, in words; nothing where it can."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ectkd.errors import EctkdError, FormatError
from napari_ectkd.models.checkpoint import read_info
from napari_ectkd.runs import Run
from napari_ectkd.training.run_list import can_resume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ectkd.training.run_list import FoundRun


def why_not_resumed(run: FoundRun) -> str:
    """Return why a run cannot go on from this window."""
    name = run.path.name
    if run.state in ("running", "queued"):
        return f"{name} is at work"
    if not can_resume(run):
        if run.state == "finished":
            return f"{name} has finished"
        return f"{name} saved no epoch to go on from; duplicate it"
    if scheduler := _scheduler(run):
        return (
            f"{name} was handed to {scheduler}; where that is, go on with "
            f"ectkd {run.kind} --out {name} --resume"
        )
    return ""


def why_not_cancelled(run: FoundRun) -> str:
    """Return why there is nothing to stop."""
    if run.state in ("running", "queued"):
        return ""
    return f"{run.path.name} is not at work"


def why_not_deleted(runs: Sequence[FoundRun]) -> str:
    """Return why runs cannot be removed."""
    if any(run.state in ("running", "queued") for run in runs):
        return "Cancel a run before you delete it"
    return "" if runs else "Choose runs in the list"


def why_no_model(run: FoundRun) -> str:
    """Return why there is no model to use."""
    if run.info is not None:
        return ""
    try:
        read_info(run.path)
    except FormatError as error:
        return str(error)
    except EctkdError:
        pass  # there is none
    yet = "" if run.state == "finished" else " yet"
    return f"{run.path.name} has no model{yet}"


def why_no_card(run: FoundRun) -> str:
    """Return why there is no model card."""
    has_card = Run(run.path).card_path.exists()
    return "" if has_card else f"{run.path.name} has not finished"


def _scheduler(run: FoundRun) -> str:
    """Return what a run was handed to, if it was."""
    try:
        where = Run(run.path).config().get("where")
    except EctkdError:
        return ""
    return str((where or {}).get("submit") or "")
