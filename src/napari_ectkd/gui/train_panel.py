"""The panel that trains a teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QPushButton

from napari_ectkd.distillation.config import GenerationConfig
from napari_ectkd.distillation.ways import HOW, MEMBERS
from napari_ectkd.errors import ConfigError
from napari_ectkd.gui.learn_panel import LearnPanel
from napari_ectkd.gui.panel import folded
from napari_ectkd.gui.session import Session
from napari_ectkd.gui.setup_check import SetupCheck
from napari_ectkd.gui.suspect_list import SuspectList
from napari_ectkd.gui.unlabeled_box import UnlabeledBox
from napari_ectkd.training.defaults import (
    FEW_LABELS,
    default_batch_size,
    default_epochs,
    steps_per_epoch,
    wants_all,
)

if TYPE_CHECKING:
    from pathlib import Path

    import napari


class TrainPanel(LearnPanel):
    """Trains a model, or several as one teacher, and shows how it learns."""

    command: ClassVar[str] = "train"
    title: ClassVar[str] = "Training"
    name_stem: ClassVar[str] = "teacher"
    start_text: ClassVar[str] = "Start training"

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        self.also_unlabeled = UnlabeledBox(
            Session.of(napari_viewer),
            "{n} picks. Once a network, or several, have learned from the labels, new "
            "ones learn what these think of all picks, and so on. Where the first are "
            "mostly right, the last are better teachers. Takes several times as long",
        )
        super().__init__(
            napari_viewer,
            GenerationConfig(),
            ["model", "epochs", "members", "device"],
            hidden=["unlabeled"],
        )

    def plan(self) -> str:
        """Return what the settings come to, in words."""
        config = self.form.value()
        named = self.data.class_counts()
        counts = list(named.values())
        n = sum(counts)
        if not self.data.is_of_window() or not n:
            return ""
        n_training = round(n * (1 - config.validation_fraction))
        steps = steps_per_epoch(n_training, config.batch_size)
        epochs = config.epochs or default_epochs(n_training, config.batch_size)
        of = min(n_training, config.batch_size)
        batches = f"{steps} batches" if steps > 1 else "1 batch"
        members = f"{config.members} times " if config.members > 1 else ""
        text = f"{members}{epochs} epochs of {batches} of {of} subtomograms"
        if self.also_unlabeled.is_wanted():
            n_unlabeled = round(HOW["surest_share"] * self.also_unlabeled.count())
            n_all = n_training + n_unlabeled
            epochs = config.epochs or default_epochs(n_all, config.batch_size)
            later = config.generations - 1
            times = f"{later} times" if later > 1 else "once"
            text += (
                f"; then, {times}, {MEMBERS} networks by about {epochs} epochs of "
                f"{steps_per_epoch(n_all, config.batch_size)} batches from those "
                "before and the unlabeled picks"
            )
        if wants_all(config, counts):
            is_one = config.members == 1 and not self.also_unlabeled.is_wanted()
            who = "it" if is_one else "each"
            text += f"; {who} then learns as long once more from all {n} labels"
        share = 1 - config.validation_fraction
        few = [f"{name} {m}" for name, m in named.items() if m * share < FEW_LABELS]
        return text + (f"\n⚠ Few labels: {', '.join(few)}" if few else "")

    def extra_arguments(self, run: Path) -> list[str]:
        """Return the unlabeled picks as arguments, if they are to teach."""
        return self.also_unlabeled.arguments(run)

    def show_result(self, result: dict[str, Any]) -> None:
        """Show what came of a run; of an ensemble, of each member alone too."""
        super().show_result(result)
        if "member_val_accuracy" in result:
            alone = ", ".join(f"{a:.1%}" for a in result["member_val_accuracy"])
            self.summary.setText(
                f"{_together(result)}. {self.summary.text()} Alone: {alone}."
            )

    def _build_head(self) -> None:
        self.setup_button = QPushButton("Check my setup")
        self.setup_button.setToolTip(
            "<qt>Runs a real computation on each device, and says what is missing</qt>"
        )
        self.setup_button.clicked.connect(lambda: SetupCheck(self).show())
        self.plan_label = QLabel(wordWrap=True)
        self.suspects = SuspectList(
            self.session, self.data, self.jobs, self._device_arguments
        )

    def _build(self) -> None:
        super()._build()
        after_form = self.column.indexOf(self.form) + 1
        self.column.insertWidget(after_form, self.also_unlabeled)
        self.column.insertWidget(after_form + 1, self.plan_label)
        self.column.insertWidget(
            after_form + 2, self.setup_button, 0, Qt.AlignmentFlag.AlignRight
        )
        before_form = self.column.indexOf(self.form)
        self.column.insertWidget(before_form, folded("Check the labels", self.suspects))

    def _connect(self) -> None:
        super()._connect()
        self.also_unlabeled.toggled.connect(self._refresh)
        self._proposed_batch = self.form.editors["batch_size"].value()
        self.form.editors["device"].offered.connect(self._propose_batch)
        for signal in (self.form.editors["model"].valueChanged, self.data.valueChanged):
            signal.connect(self._propose_batch)

    def _device_arguments(self) -> list[str]:
        config = self.form.value()
        return ["--device", config.device, "--precision", config.precision]

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
        self.also_unlabeled.refresh(self.data)
        try:
            self.plan_label.setText(self.plan())
        except ConfigError:
            self.plan_label.clear()
        self.plan_label.setVisible(bool(self.plan_label.text()))


def _together(result: dict[str, Any]) -> str:
    text = f"{result['members']} members together"
    if "generation" in result:
        text += f", of generation {result['generation']}"
    return text
