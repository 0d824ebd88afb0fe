"""`ectkd refine`: a model learns from the hits of a sweep that a person corrected."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from napari_ectkd.cli.drive import drive
from napari_ectkd.cli.kept_settings import kept_part, kept_settings, settings
from napari_ectkd.cli.learn_commands import show_model
from napari_ectkd.cli.options import DEFAULT_OUTPUT, FLAT, OutputOptions
from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.errors import ConfigError
from napari_ectkd.io.tomogram_list import find_files
from napari_ectkd.refinement.config import RefineConfig
from napari_ectkd.runs import Run
from napari_ectkd.training.config import TrainConfig

if TYPE_CHECKING:
    from napari_ectkd.refinement.refine import Plan


def refine(
    hits: Annotated[list[Path], Parameter(negative_iterable=())] = [],  # noqa: B006
    *,
    model: Annotated[
        Path | None, Parameter(help="run folder of the model that found the hits")
    ] = None,
    tomograms: Annotated[
        list[Path],
        Parameter(
            help="tomograms of the hits: files, folders, patterns or a list",
            negative_iterable=(),
        ),
    ] = [],  # noqa: B006
    out: Annotated[Path, Parameter(help="run folder to make")],
    config: Annotated[RefineConfig, FLAT] = RefineConfig(),  # noqa: B008
    data: Annotated[
        list[Path],
        Parameter(
            help="what the model learned from; default: as its run says",
            negative_iterable=(),
        ),
    ] = [],  # noqa: B006  cyclopts copies it
    resume: Annotated[bool, Parameter(negative=())] = False,
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
    resume
        Go on with the run in --out where it stopped, by its own settings.
    """
    from napari_ectkd.refinement.refine import plan_refinement
    from napari_ectkd.refinement.refine import refine as refine_model

    run = Run(out)
    if resume:
        model, config, plan = _kept_plan(run)
    elif not (hits and model and tomograms):
        raise ConfigError(
            "name the hits, the model that found them (--model RUN) and their "
            "tomograms (--tomograms), or a run to go on with (--out RUN --resume)"
        )
    else:
        files = find_files(hits, ".star")
        old = DataConfig(data=data) if data else None
        plan = plan_refinement(model, files, tomograms, run, config, old)
        kept = settings("refine", plan.data, plan.learning)
        run.create(
            kept
            | {
                "model": str(model.resolve()),
                "refine": config.model_dump(mode="json"),
                "hits": [str(path.resolve()) for path in files],
                "old": [str(path.resolve()) for path in data],
                "corrections": plan.counts,
            }
        )
    console = output.console()
    result = drive(
        lambda cancel: refine_model(
            model, plan, config, run, cancel=cancel, is_resumed=resume
        ),
        console,
        run,
    )
    show_model(console, result)
    console.result(result)


def _kept_plan(run: Run) -> tuple[Path, RefineConfig, Plan]:
    """Return model, settings and plan that an unfinished run was started with."""
    from napari_ectkd.refinement.refine import Plan

    kept = kept_settings(run, "refine")
    plan = Plan(
        kept_part(run, DataConfig, kept, "data"),
        kept_part(run, TrainConfig, kept, "config"),
        kept.get("corrections", {}),
    )
    return Path(kept["model"]), kept_part(run, RefineConfig, kept, "refine"), plan
