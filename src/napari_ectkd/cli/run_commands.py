"""`ectkd runs` and `ectkd doctor`: what is there, and whether the machine can work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from napari_ectkd.cli.options import DEFAULT_OUTPUT, OutputOptions


def list_runs(
    folder: Path = Path("runs"), *, output: OutputOptions = DEFAULT_OUTPUT
) -> None:
    """List the runs of a folder, the newest first.

    Parameters
    ----------
    folder
        Where the run folders are.
    """
    from napari_ectkd.training.run_list import check_folder, find_runs

    check_folder(folder)
    found = [run.as_dict() for run in find_runs(folder)]
    console = output.console()
    if not found:
        console.say(f"no runs in {folder}")
    else:
        console.table(
            str(folder),
            ["run", "what", "state", "epoch", "network", "validation accuracy"],
            [
                [
                    run["name"],
                    run["kind"],
                    run["state"] + (", can resume" if run["can_resume"] else ""),
                    f"{run['epoch']}/{run['epochs'] or '–'}",
                    run["model"] or "–",
                    "–"
                    if run["val_accuracy"] is None
                    else f"{run['val_accuracy']:.3f}",
                ]
                for run in found
            ],
        )
    console.result({"folder": str(folder), "runs": found})


def export(
    run: Path,
    *,
    out: Annotated[Path, Parameter(help="file to write, .safetensors")],
    output: OutputOptions = DEFAULT_OUTPUT,
) -> None:
    """Write a run's model as one file that needs no other, its model card beside it.

    Parameters
    ----------
    run
        Run folder.
    """
    from napari_ectkd.training.run_list import export_model

    written = export_model(run, out)
    console = output.console()
    for path in written:
        console.say(f"wrote {path}")
    console.result({"files": [str(path) for path in written]})


def delete(
    run: Path,
    *,
    yes: Annotated[
        bool, Parameter(help="do not ask; needed, nothing else asks", negative=())
    ] = False,
    output: OutputOptions = DEFAULT_OUTPUT,
) -> None:
    """Remove a run with its checkpoints and its log.

    Parameters
    ----------
    run
        Run folder.
    """
    from napari_ectkd.errors import ConfigError
    from napari_ectkd.training.run_list import delete_run

    if not yes:
        raise ConfigError(f"this removes {run} with all that is in it; say --yes")
    delete_run(run)
    console = output.console()
    console.say(f"removed {run}")
    console.result({"removed": str(run)})


def doctor(*, output: OutputOptions = DEFAULT_OUTPUT) -> None:
    """Check this machine: a kernel on each device, versions, memory, the window."""
    from napari_ectkd.cli.drive import drive
    from napari_ectkd.errors import DataError
    from napari_ectkd.training.doctor import examine

    console = output.console()
    result = drive(lambda c: examine(cancel=c), console, output.folder())
    signs = {"good": "✓", "note": "–", "bad": "✗"}
    for found in result["findings"]:
        console.say(f"{signs[found['verdict']]} {found['what']}: {found['text']}")
    console.result(result)
    if not result["is_good"]:
        raise DataError("something does not work; see what is marked ✗ above")
