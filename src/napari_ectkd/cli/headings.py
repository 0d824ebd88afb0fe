"""Headings in the help of a command with many options."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cyclopts import Group, Parameter

from napari_ectkd.simulation.config import (
    SubtomogramSettings,
    SubtomogramSimulation,
    TomogramSimulation,
)
from napari_ectkd.simulation.imaging_config import ImagingConfig

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import BaseModel

_TILT_SERIES = Group("Tilt series (with --noise projections)")
_FOR_ALL = {"noise", "tilt_range", "tilt_range_spread"}


def put_under(heading: Group, config: type[BaseModel], names: Iterable[str]) -> None:
    """Show options of a config under a heading of their own.

    cyclopts reads what is annotated on a field; the configs themselves shall not know
    the command line.
    """
    for name in names:
        config.model_fields[name].metadata.append(Parameter(group=heading))


def head_simulations() -> None:
    """Set what only a tilt series needs apart from what every simulation asks."""
    special = set(ImagingConfig.model_fields) - _FOR_ALL
    for config in (SubtomogramSettings, SubtomogramSimulation, TomogramSimulation):
        # What a config says in its own words means more than a tilt series there.
        put_under(_TILT_SERIES, config, special - set(config.__annotations__))
