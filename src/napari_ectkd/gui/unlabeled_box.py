"""The tick box that lets a model learn from the picks without a label too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QCheckBox

from napari_ectkd.gui.class_codes import class_codes
from napari_ectkd.io.atomic import make_folder
from napari_ectkd.io.star import write_picks

if TYPE_CHECKING:
    from pathlib import Path

    from napari_ectkd.gui.data_source import DataSource
    from napari_ectkd.gui.session import Session

_TEXT = "Also learn from unlabeled picks"


class UnlabeledBox(QCheckBox):
    """Offers the unlabeled picks of the session, with their number.

    Parameters
    ----------
    session
        Whose picks these are.
    what
        What comes of them, as a tool tip; `{n}` is their number.
    """

    def __init__(self, session: Session, what: str) -> None:
        super().__init__(_TEXT)
        self._session = session
        self._what = what

    def is_wanted(self) -> bool:
        """Return whether there are such picks, and they are to teach."""
        return self.isEnabled() and self.isChecked()

    def count(self) -> int:
        """Return the number of picks without a label."""
        return int((~class_codes(self._session.all_picks()).is_labeled).sum())

    def refresh(self, data: DataSource) -> None:
        """Offer the picks, if the labels are those of the window; else say why not."""
        n = self.count()
        problem = "" if n else "All picks are labeled; pick more in step 1"
        if not data.is_of_window():
            problem = "Only with the labels in this window"
        self.setEnabled(not problem)
        self.setToolTip(f"<qt>{problem or self._what.format(n=n)}</qt>")
        self.setText(_TEXT if problem else f"{_TEXT} ({n})")

    def arguments(self, run: Path) -> list[str]:
        """Return what a run is told of these picks, which are written beside it.

        Raises
        ------
        WriteError
            If they cannot be written.
        """
        if not self.is_wanted():
            return []
        picks = self._session.all_picks()
        sizes = {n: t.voxel_size for n, t in self._session.tomograms.items()}
        path = make_folder(run / "data") / "unlabeled-picks.star"
        write_picks(path, picks[~picks.is_labeled], sizes)
        return ["--unlabeled", str(path)]
