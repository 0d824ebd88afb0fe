"""The panel that trains a teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QPushButton

from napari_ectkd.errors import ConfigError
from napari_ectkd.gui.learn_panel import LearnPanel
from napari_ectkd.gui.panel import folded
from napari_ectkd.gui.setup_check import SetupCheck
from napari_ectkd.gui.suspect_list import SuspectList
from napari_ectkd.training.config import EnsembleConfig
from napari_ectkd.training.defaults import (
    default_batch_size,
    default_epochs,
    steps_per_epoch,
)
from napari_ectkd.training.refit import wants_all

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

    def plan(self) -> str:
        """Return what the settings come to, in words."""
        config = self.form.value()
        counts = list(self.data.class_counts().values())
        n = sum(counts)
        if self.data.box_px() is None or not n:
            return ""
        n_training = round(n * (1 - config.validation_fraction))
        steps = steps_per_epoch(n_training, config.batch_size)
        epochs = config.epochs or default_epochs(n_training, config.batch_size)
        of = min(n_training, config.batch_size)
        batches = f"{steps} batches" if steps > 1 else "1 batch"
        members = f"{config.members} times " if config.members > 1 else ""
        text = f"{members}{epochs} epochs of {batches} of {of} subtomograms"
        if wants_all(config, counts):
            text += f", then as many steps once more from all {n} labels"
        return text

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
        self.plan_label = QLabel(wordWrap=True)
        self.suspects = SuspectList(self.session, self.data, self.jobs)

    def _build(self) -> None:
        super()._build()
        after_form = self.column.indexOf(self.form) + 1
        self.column.insertWidget(after_form, self.plan_label)
        self.column.insertWidget(
            after_form + 1, self.setup_button, 0, Qt.AlignmentFlag.AlignRight
        )
        before_form = self.column.indexOf(self.form)
        self.column.insertWidget(before_form, folded("Check the labels", self.suspects))

    def _connect(self) -> None:
        super()._connect()
        self._proposed_batch = self.form.editors["batch_size"].value()
        self.form.editors["device"].offered.connect(self._propose_batch)
        for signal in (self.form.editors["model"].valueChanged, self.data.valueChanged):
            signal.connect(self._propose_batch)

    def _propose_batch(self) -> None:
        """Propose a batch that fits the device's memory, unless one was chosen."""
        editor = self.form.editors["batch_size"]
        devices = self.form.editors["device"].devices
        box = self.data.box_px()
        # Before the devices are known torch is not loaded, and it takes seconds.
        if editor.value() != self._proposed_batch or not devices or box is None:
            return
        chosen = self.form.editors["device"].value()
        device = next((d for d in devices if d.name == chosen), devices[0])
        name = self.form.editors["model"].value() or "residual"
        try:
            self._proposed_batch = default_batch_size(name, box, device.free_bytes)
        except ConfigError:
            return  # the box does not suit the network, which Start says
        editor.setValue(self._proposed_batch)

    def _refresh(self) -> None:
        super()._refresh()
        try:
            self.plan_label.setText(self.plan())
        except ConfigError:
            self.plan_label.clear()
        self.plan_label.setVisible(bool(self.plan_label.text()))
