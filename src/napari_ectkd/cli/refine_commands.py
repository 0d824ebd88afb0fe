"""`ectkd refine`: a model learns from the hits of a sweep that a person corrected."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from napari_ectkd.cli.drive import drive
from napari_ectkd.cli.kept_settings import settings
from napari_ectkd.cli.learn_commands import show_model
from napari_ectkd.cli.options import DEFAULT_OUTPUT, FLAT, OutputOptions
from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.io.tomogram_list import find_files
from napari_ectkd.refinement.config import RefineConfig
from napari_ectkd.runs import Run


def refine(
    hits: Annotated[list[Path], Parameter(negative_iterable=())],
    *,
    model: Annotated[
        Path, Parameter(help="run folder of the model that found the hits")
    ],
    tomograms: Annotated[
        list[Path],
        Parameter(
            help="tomograms of the hits: files, folders, patterns or a list",
            negative_iterable=(),
        ),
    ],
    out: Annotated[Path, Parameter(help="run folder to make")],
    config: Annotated[RefineConfig, FLAT] = RefineConfig(),  # noqa: B008
    data: Annotated[
        list[Path],
        Parameter(
            help="what the model learned from; default: as its run says",
            negative_iterable=(),
        ),
    ] = [],  # noqa: B006  cyclopts copies it
    output: OutputOptions = DEFAULT_OUTPUT,
) -> None:
    """Let a model learn again, from its old data and from corrected hits of a sweep.

    In the STAR file that `ectkd sweep` wrote, the column ectkdLabel says what a person
    found: the prediction again (accepted), another class (corrected), or none
    (rejected). Hits without a label are not used.

    Parameters
    ----------
    hits
        STAR files of sweeps; also folders or quoted patterns.
    """
    from napari_ectkd.refinement.refine import plan_refinement
    from napari_ectkd.refinement.refine import refine as refine_model

    run = Run(out)
    old = DataConfig(data=data) if data else None
    plan = plan_refinement(
        model, find_files(hits, ".star"), tomograms, run, config, old
    )
    run.create(
        settings("refine", plan.data, plan.learning)
        | {"model": str(model.resolve()), "refine": config.model_dump(mode="json")}
    )
    console = output.console()
    result = drive(
        lambda cancel: refine_model(model, plan, config, run, cancel=cancel),
        console,
        run,
    )
    show_model(console, result)
    console.result(result)
