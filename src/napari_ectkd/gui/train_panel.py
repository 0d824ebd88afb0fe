"""The panel that trains a teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QPushButton

from napari_ectkd.gui.learn_panel import LearnPanel
from napari_ectkd.gui.panel import folded
from napari_ectkd.gui.setup_check import SetupCheck
from napari_ectkd.gui.suspect_list import SuspectList
from napari_ectkd.training.config import EnsembleConfig

if TYPE_CHECKING:
    import napari


class TrainPanel(LearnPanel):
    """Trains a model, or several as one teacher, and shows how it learns."""

    command: ClassVar[str] = "train"
    title: ClassVar[str] = "Training"
    name_stem: ClassVar[str] = "teacher"
    start_text: ClassVar[str] = "Start training"

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(
            napari_viewer, EnsembleConfig(), ["model", "epochs", "members", "device"]
        )

    def show_result(self, result: dict[str, Any]) -> None:
        """Show what came of a run; of an ensemble, of each member alone too."""
        super().show_result(result)
        if "member_val_accuracy" in result:
            alone = ", ".join(f"{a:.1%}" for a in result["member_val_accuracy"])
            self.summary.setText(
                f"{result['members']} members together. {self.summary.text()} "
                f"Alone: {alone}."
            )

    def _build_head(self) -> None:
        self.setup_button = QPushButton("Check my setup")
        self.setup_button.setToolTip(
            "<qt>Runs a real computation on each device, and says what is missing</qt>"
        )
        self.setup_button.clicked.connect(lambda: SetupCheck(self).show())
        self.suspects = SuspectList(self.session, self.data, self.jobs)

    def _build(self) -> None:
        super()._build()
        after_form = self.column.indexOf(self.form) + 1
        self.column.insertWidget(
            after_form, self.setup_button, 0, Qt.AlignmentFlag.AlignRight
        )
        before_form = self.column.indexOf(self.form)
        self.column.insertWidget(before_form, folded("Check the labels", self.suspects))
