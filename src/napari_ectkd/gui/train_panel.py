"""The panel that trains a teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from napari_ectkd.gui.learn_panel import LearnPanel
from napari_ectkd.training.config import TrainConfig

if TYPE_CHECKING:
    import napari


class TrainPanel(LearnPanel):
    """Trains a model on labels, and shows how it learns."""

    command: ClassVar[str] = "train"
    title: ClassVar[str] = "Training"
    name_stem: ClassVar[str] = "teacher"
    start_text: ClassVar[str] = "Start training"

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer, TrainConfig(), ["model", "epochs", "device"])
