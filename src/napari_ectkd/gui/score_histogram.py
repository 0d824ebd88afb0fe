"""The scores of one class's predictions, and the cut below which they are unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget
from scipy.special import expit

from napari_ectkd.gui.choice_edit import ChoiceEdit
from napari_ectkd.gui.class_codes import class_codes
from napari_ectkd.gui.curves import TEACHER, plotting_library, small_plot
from napari_ectkd.gui.overlay import scores
from napari_ectkd.gui.panel import set_problem
from napari_ectkd.io.picks import NONE, UNLABELED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_ectkd.gui.session import Session

_BINS = 48
FEWEST = 10
"""Predictions for which a cut is suggested: fewer have no two heaps."""


class ScoreHistogram(QWidget):
    """Scores of a class in all tomograms, with a line to drag: its cut."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._graph: Any = plotting_library()
        self.choice = ChoiceEdit([])
        self.plot = small_plot(self._graph, "picks", "score (log-odds)")
        self.bars = self._graph.BarGraphItem(x0=[], x1=[], y0=0, height=[])
        self.line = self._graph.InfiniteLine(
            movable=True, pen=self._graph.mkPen(TEACHER, width=3)
        )
        self.text = QLabel(wordWrap=True)
        self.suggest_button = QPushButton("Suggested cut")
        self.clear_button = QPushButton("No cut")
        self._names: list[str] = []
        self._scores: NDArray[np.float64] = np.zeros(0)
        self._build()
        self.choice.valueChanged.connect(self.refresh)
        session.picks_changed.connect(self.refresh)
        session.classes_changed.connect(self.refresh)
        session.tomograms_changed.connect(self.refresh)
        session.overlay_changed.connect(self._show_cut)
        self.refresh()

    def suggestion(self) -> float | None:
        """Return the suggested cut, see `suggest_cut`."""
        return suggest_cut(self._scores)

    def refresh(self) -> None:
        """Show the scores of now."""
        picks = [self._session.picks(name) for name in self._session.tomograms]
        predicted = {n for p in picks for n in class_codes(p).prediction.counts()}
        names = sorted(predicted - {NONE, UNLABELED})
        with QSignalBlocker(self.choice):
            self.choice.setChoices([(name, name) for name in names])
        self._names = names
        self.setVisible(bool(names))
        if not names:
            return
        name = self.choice.value()
        found = np.concatenate(
            [scores(p)[class_codes(p).prediction.is_in({name})] for p in picks]
        )
        self._scores = found[np.isfinite(found)]
        height, edges = np.histogram(self._scores, _BINS)
        color = self._session.palette.color(name)
        self.bars.setOpts(
            x0=edges[:-1], x1=edges[1:], y0=0, height=height, brush=color, pen=None
        )
        top = max(height.max(), 1)
        self.plot.setYRange(0, top, padding=0.05)
        # Of few picks it would mark halves.
        self.plot.getAxis("left").setTickSpacing(*((1, 1) if top < 5 else ()))
        margin = 0.03 * (edges[-1] - edges[0])
        self.plot.setXRange(edges[0] - margin, edges[-1] + margin, padding=0)
        with QSignalBlocker(self.line):  # moved into its bounds, it is no cut
            self.line.setBounds((edges[0] - margin, edges[-1] + margin))
        self._show_cut()

    def choose(self, name: str) -> None:
        """Show the scores of a class, if it has any."""
        if name in self._names:
            self.choice.setValue(name)

    def set_cut(self, cut: float | None) -> None:
        """Set the cut of the chosen class, or take it away."""
        cuts = dict(self._session.overlay.cuts)
        cuts.pop(self.choice.value(), None)
        if cut is not None:
            cuts[self.choice.value()] = cut
        self._session.set_overlay(cuts=cuts)

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        row = QHBoxLayout()
        row.addWidget(QLabel("Scores of"))
        row.addWidget(self.choice, 1)
        layout.addLayout(row)
        layout.addWidget(self.plot)
        self.plot.plotItem.legend.hide()
        self.plot.addItem(self.bars)
        self.plot.addItem(self.line, ignoreBounds=True)
        layout.addWidget(self.text)
        buttons = QHBoxLayout()
        buttons.addWidget(self.suggest_button)
        buttons.addWidget(self.clear_button)
        layout.addLayout(buttons)
        self.plot.setToolTip(
            "<qt>Log-odds of the class: 0 is a confidence of 0.5, 3 of 0.95, 7 of "
            "0.999. Drag the line: predictions left of it are shown as unknown</qt>"
        )
        self.line.sigPositionChanged.connect(lambda line: self.set_cut(line.value()))
        self.suggest_button.clicked.connect(lambda: self.set_cut(self.suggestion()))
        self.clear_button.clicked.connect(lambda: self.set_cut(None))

    def _show_cut(self) -> None:
        name = self.choice.value()
        if name is None or not len(self._scores):
            return
        cut = self._session.overlay.cuts.get(name)
        total = len(self._scores)
        with QSignalBlocker(self.line):
            self.line.setValue(self._scores.min() if cut is None else cut)
        self.text.setText(
            f"No cut: all {total:,} predictions of {name}."
            if cut is None
            else f"{int((self._scores >= cut).sum()):,} of {total:,} score at least "
            f"{cut:.2f} (confidence {expit(cut):.3f})."
        )
        suggestion = self.suggestion()
        problem = f"A cut is suggested from {FEWEST} different predictions on"
        set_problem(
            self.suggest_button,
            "" if suggestion is not None else problem,
            "Otsu's method: the cut between two heaps of scores that makes each as "
            "narrow as possible. If the histogram shows only one heap, look before "
            "you trust it",
        )
        problem = "" if cut is not None else "There is no cut"
        set_problem(self.clear_button, problem, "Show all predictions again")


def suggest_cut(values: NDArray[np.float64]) -> float | None:
    """Return the cut between two heaps of scores; None for too few.

    References
    ----------
    Otsu (1979), IEEE Trans. Systems, Man, and Cybernetics 9, 62.
    """
    if len(np.unique(values)) < FEWEST:
        return None
    from skimage.filters import threshold_otsu

    return float(threshold_otsu(values))
