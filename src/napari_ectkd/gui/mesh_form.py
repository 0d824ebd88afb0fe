"""Whether particles are drawn in 3D as densities, and of which files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_ectkd.errors import EctkdError
from napari_ectkd.gui.choice_edit import ChoiceEdit
from napari_ectkd.gui.mesh_layer import ParticleMeshes
from napari_ectkd.simulation.density import DENSITY_FILTER, find_densities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ectkd.gui.session import Session

_ALL = ""


class MeshForm(QWidget):
    """Switches the meshes of a session on and off, and takes densities."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.meshes = ParticleMeshes(session)
        self.box = QCheckBox("Draw particles as densities in 3D")
        self.of = ChoiceEdit([])
        self.choose_button = QPushButton("Choose…")
        self.text = QLabel(wordWrap=True)
        self._row = QWidget()
        row = QHBoxLayout(self._row)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(QLabel("Density of"))
        row.addWidget(self.of, 1)
        row.addWidget(self.choose_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.box, self._row, self.text):
            layout.addWidget(widget)
        self.box.setToolTip(
            "<qt>In napari's 3D view, each particle as the surface of its class's "
            "density, turned as its angles say</qt>"
        )
        self.of.setToolTip(
            "<qt>One class, or all at once: then each file is of the class that it is "
            "named after</qt>"
        )
        self.choose_button.setToolTip("A map (MRC) or atoms (PDB, mmCIF)")
        self.box.toggled.connect(self._switch)
        self.choose_button.clicked.connect(self._choose)
        self.meshes.drawn.connect(self._refresh_text)
        session.classes_changed.connect(self.refresh)
        session.overlay_changed.connect(self.refresh)
        session.current_changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show the settings of now."""
        session = self._session
        overlay = session.overlay
        with QSignalBlocker(self.box):
            self.box.setChecked(overlay.has_meshes)
        self.box.setEnabled(session.current is not None)
        kept = self.of.value()
        choices = [(_ALL, "all, by file name")]
        for name in session.classes:
            path = overlay.densities.get(name)
            choices.append((name, f"{name}: {path.name}" if path else f"{name}: none"))
        with QSignalBlocker(self.of):
            self.of.setChoices(choices)
            if kept in session.classes:
                self.of.setValue(kept)
        self._row.setVisible(overlay.has_meshes)
        self._refresh_text()

    def take(self, paths: Sequence[Path]) -> None:
        """Draw classes by these files: the chosen class, or those that they name."""
        session, chosen = self._session, self.of.value()
        try:
            files = find_densities(paths)
        except EctkdError as error:
            self._say(str(error))
            return
        if chosen != _ALL:
            files = dict.fromkeys([chosen], next(iter(files.values())))
        known = {name.lower(): name for name in session.classes}
        fitting = {known[n.lower()]: p for n, p in files.items() if n.lower() in known}
        self.meshes.loader.forget(fitting.values())
        session.set_overlay(densities={**session.overlay.densities, **fitting})
        strange = [path.name for n, path in files.items() if n.lower() not in known]
        if strange:
            self._say(
                f"No class has the name of {', '.join(strange)}: choose the class, and "
                "then its file"
            )

    def _switch(self, is_on: bool) -> None:
        self._session.set_overlay(has_meshes=is_on)

    def _choose(self) -> None:
        ask = QFileDialog.getOpenFileNames
        if self.of.value() != _ALL:
            ask = QFileDialog.getOpenFileName
        found, _ = ask(self, "Choose densities", "", DENSITY_FILTER)
        names = [found] if isinstance(found, str) else found
        if names := [name for name in names if name]:
            self.take([Path(name) for name in names])

    def _refresh_text(self) -> None:
        self._say(self.meshes.text if self._session.overlay.has_meshes else "")

    def _say(self, text: str) -> None:
        self.text.setText(text)
        self.text.setVisible(bool(text))
