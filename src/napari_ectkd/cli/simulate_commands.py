"""`ectkd simulate`: subtomograms, or a tomogram, with their truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from napari_ectkd.cli.drive import drive
from napari_ectkd.cli.headings import head_simulations
from napari_ectkd.cli.options import (
    DEFAULT_OUTPUT,
    FLAT,
    OutputOptions,
)
from napari_ectkd.simulation.config import (
    SubtomogramSettings,
    SubtomogramSimulation,
    TomogramSimulation,
)

if TYPE_CHECKING:
    from napari_ectkd.cli.console import Console

head_simulations()


def simulate_subtomograms(
    config: Annotated[SubtomogramSimulation, FLAT],
    *,
    output: OutputOptions = DEFAULT_OUTPUT,
) -> None:
    """Simulate a data set of subtomograms, each with its class."""
    from napari_ectkd.simulation.subtomograms import simulate_subtomograms as simulate

    console = output.console()
    result = drive(lambda c: simulate(config, cancel=c), console, output.folder())
    _show_snr(console, result)
    console.result(result)


def write_settings(
    config: Annotated[SubtomogramSettings, FLAT],
    *,
    out: Annotated[Path, Parameter(help="JSON file to write")],
    output: OutputOptions = DEFAULT_OUTPUT,
) -> None:
    """Write how subtomograms are simulated, for `ectkd train --stream`."""
    from napari_ectkd.simulation.noise import check_fit
    from napari_ectkd.simulation.settings_file import write_settings as write
    from napari_ectkd.simulation.simulator import densities_of

    # Whatever is wrong with them is said now, and not to a cluster's job.
    console = output.console()
    for noted in check_fit(densities_of(config), config.box):
        console.show(noted)
    write(config, out)
    console.result({"settings": str(out)})


def simulate_tomogram(
    config: Annotated[TomogramSimulation, FLAT],
    *,
    output: OutputOptions = DEFAULT_OUTPUT,
) -> None:
    """Simulate a tomogram of many particles, with the list of what is where."""
    from napari_ectkd.simulation.tomogram import simulate_tomogram as simulate

    console = output.console()
    result = drive(lambda c: simulate(config, cancel=c), console, output.folder())
    share = 100 * result["volume_fraction"]
    console.say(f"{result['n']} particles are {share:.2g} % of the ice")
    _show_snr(console, result)
    console.result(result)


def _show_snr(console: Console, result: dict[str, Any]) -> None:
    snr = result.get("snr", {})
    if snr:
        text = ", ".join(f"{name} {value:.3g}" for name, value in snr.items())
        console.say(f"SNR in the box by class: {text}")
