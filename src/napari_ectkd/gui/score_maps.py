"""Which score map is shown over the tomogram; where the maps are, and how large."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import QCheckBox, QFormLayout, QLabel, QVBoxLayout, QWidget

from napari_ectkd.errors import EctkdError
from napari_ectkd.gui.choice_edit import ChoiceEdit
from napari_ectkd.gui.layers import KEY
from napari_ectkd.gui.score_layers import (
    paint_scores,
    renew_score_layer,
    score_layer,
    score_layer_facts,
    size_on_disk,
)
from napari_ectkd.gui.storage import ProjectFolder
from napari_ectkd.gui.tomogram_batch import RESULTS
from napari_ectkd.io.class_colors import colors_of
from napari_ectkd.io.picks import NONE
from napari_ectkd.io.scores import open_scores
from napari_ectkd.prediction.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari.layers import Image

    from napari_ectkd.gui.session import Session
    from napari_ectkd.io.scores import Scores
    from napari_ectkd.io.tomogram import Tomogram


class KeepScores(QCheckBox):
    """Whether a sweep keeps what the model says of every place."""

    def __init__(self) -> None:
        super().__init__("Keep score maps")
        has_zarr = find_spec("zarr") is not None
        self.setEnabled(has_zarr)
        self.setToolTip(
            "<qt>What the model says of every place, to be shown as an image for each "
            "class. At every fourth voxel a class takes 1/64 of a float32 "
            "tomogram</qt>"
            if has_zarr
            else "Score maps need the package zarr: pip install 'napari-ectkd[zarr]'"
        )


class ScoreMaps(QWidget):
    """Shows one class's probability over the current tomogram, if a sweep kept it.

    A layer is made when its class is first chosen, and hidden when another is.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.choice = ChoiceEdit([])
        self.text = QLabel(wordWrap=True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        row = QFormLayout()
        row.addRow("Score map of", self.choice)
        layout.addLayout(row)
        layout.addWidget(self.text)
        self.text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.choice.setToolTip(
            "<qt>The probability of a class at every place that was searched, from "
            "transparent (0) to the color of the class (1)</qt>"
        )
        self.choice.valueChanged.connect(self._show_chosen)
        session.current_changed.connect(self.refresh)
        session.tomograms_changed.connect(self._close_those_of_closed)
        session.classes_changed.connect(self._paint)
        session.viewer.layers.events.removed.connect(self._on_removed)
        self.refresh()

    def refresh(self) -> None:
        """Look for the score maps of the current tomogram."""
        tomogram = self._session.current
        found = find_scores(self._session, tomogram) if tomogram else []
        choices: list[tuple[tuple[Path, str] | None, str]] = [(None, "no class")]
        folders, problem = [], ""
        for path in found:
            try:
                scores = open_scores(path)
            except EctkdError as error:
                problem = str(error)
                continue
            folders.append(path)
            batch = path.parent.parent.name
            choices += [
                ((path, name), name if len(found) == 1 else f"{name}, {batch}")
                for name in scores.classes
                if name != NONE
            ]
        with QSignalBlocker(self.choice):
            self.choice.setChoices(choices)
        self.setVisible(bool(folders or problem))
        self.text.setText(problem or _where(folders))
        self._show_chosen()

    def _layers(self) -> list[Image]:
        layers = self._session.viewer.layers
        return [layer for layer in layers if score_layer_facts(layer) is not None]

    def show_none(self) -> None:
        """Hide the map that is shown."""
        self.choice.setValue(None)

    def _show_chosen(self) -> None:
        """Show the chosen map and hide the others."""
        chosen = self.choice.value()
        for layer in self._layers():
            if score_layer_facts(layer) != chosen:
                layer.visible = False
        if chosen is None:
            return
        try:
            self._show(*chosen)
        except EctkdError as error:
            self.text.setText(str(error))

    def _show(self, path: Path, name: str) -> None:
        for layer in self._layers():
            if score_layer_facts(layer) == (path, name):
                renew_score_layer(layer)
                layer.visible = True
                return
        layer = score_layer(path, name, self._color(name, open_scores(path)))
        layers = self._session.viewer.layers
        active = layers.selection.active
        points = self._session.layers.points(self._session.current.name)
        # Below the picks, which are clicked at; and they stay the active layer.
        layers.insert(layers.index(points) if points else len(layers), layer)
        layers.selection.active = active

    def _color(self, name: str, scores: Scores | None = None) -> str | None:
        """Return the color of a class; the model's, of one that the session has not."""
        known = self._session.palette.as_dict().get(name)
        return known or (colors_of(scores.classes)[name] if scores else None)

    def _paint(self) -> None:
        for layer in self._layers():
            color = self._color(score_layer_facts(layer)[1])
            if color is not None:
                paint_scores(layer, color)

    def _close_those_of_closed(self) -> None:
        for layer in self._layers():
            if layer.metadata[KEY]["scores_of"] not in self._session.tomograms:
                self._session.viewer.layers.remove(layer)

    def _on_removed(self, event: object) -> None:
        """Choose no class if the user took its layer away: it can be chosen again."""
        facts = score_layer_facts(event.value)
        if facts is not None and facts == self.choice.value():
            self.choice.setValue(None)


def find_scores(session: Session, tomogram: Tomogram) -> list[Path]:
    """Return the folders with scores of a tomogram in its project, the newest first.

    Only those count that belong to the results beside them.
    """
    home = ProjectFolder.find(tomogram.path)
    homes = {home.path if home else None, session.folder} - {None}
    found = []
    for folder in (f for home in homes for f in (home / RESULTS).glob("*")):
        try:
            manifest = read_manifest(folder)
        except EctkdError:
            continue  # said where the results themselves are looked at
        for row in manifest.tomograms if manifest else []:
            is_it = row.name == tomogram.name and row.path == tomogram.path.resolve()
            if is_it and row.state == "done" and row.scores and row.scores.is_dir():
                found.append(row.scores)
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def _where(folders: Sequence[Path]) -> str:
    if not folders:
        return ""
    size = size_on_disk(folders) / 1e6
    amount = f"{size:,.1f} MB" if size < 1000 else f"{size / 1000:,.1f} GB"
    where = " and ".join(str(folder) for folder in folders)
    return f"Score maps of this tomogram: {amount} in {where}"
