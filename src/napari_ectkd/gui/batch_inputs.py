"""What a batch works on: tomograms with what was said of them, and their picks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from napari_ectkd.gui.storage import ProjectFolder
from napari_ectkd.io.formats import tomogram_name
from napari_ectkd.io.picks import UNLABELED, Picks
from napari_ectkd.io.star import read_picks
from napari_ectkd.io.tomogram_list import TomogramEntry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_ectkd.gui.session import Session


def picks_of(entry: TomogramEntry, session: Session) -> Picks:
    """Return the picks of a tomogram, open or as they were last saved.

    Raises
    ------
    FormatError
        If the saved ones are broken.
    """
    name = tomogram_name(entry.path)
    opened = session.tomograms.get(name)
    if opened is not None and opened.path.resolve() == entry.path.resolve():
        return session.picks(name)
    home = ProjectFolder.find(entry.path)
    if home is None or not home.picks_path(name).exists():
        return Picks.empty()
    return read_picks(home.picks_path(name))


def known_entries(paths: Sequence[Path], session: Session) -> list[TomogramEntry]:
    """Return files with what was said of them, now or when they were last open.

    Raises
    ------
    FormatError
        If a list of tomograms is broken.
    """
    known = {}
    for folder in {path.parent for path in paths}:
        home = ProjectFolder.find(folder / "any")
        entries = home.load_tomograms() if home else []
        known |= {entry.path: entry for entry in entries}
    for tomogram in session.tomograms.values():
        entry = TomogramEntry.of(tomogram)
        # What the window guessed and shows is what the worker is to see.
        known[entry.path] = entry.model_copy(
            update={"is_inverted": tomogram.is_inverted}
        )
    return [known.get(p.resolve(), TomogramEntry(path=p.resolve())) for p in paths]


def bare(picks: Picks) -> Picks:
    """Return picks as no model has seen them."""
    return replace(
        picks,
        prediction=np.full(len(picks), UNLABELED, dtype=object),
        confidence=np.full(len(picks), np.nan),
        probabilities=pd.DataFrame(index=range(len(picks))),
    )


def is_same(before: Picks, now: Picks) -> bool:
    """Return whether a model would say the same of picks."""
    return (
        np.array_equal(before.pick_id, now.pick_id)
        and np.array_equal(before.label, now.label)
        and np.allclose(before.positions, now.positions, rtol=0, atol=1e-3)
    )
