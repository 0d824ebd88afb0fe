"""The panel that simulates subtomograms to train on, or a tomogram with its truth."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QStackedWidget,
)

from napari_ectkd.errors import ConfigError, EctkdError
from napari_ectkd.gui.choice_edit import ChoiceEdit
from napari_ectkd.gui.density_list import DensityList
from napari_ectkd.gui.forms import Form, arguments
from napari_ectkd.gui.panel import Panel, set_problem
from napari_ectkd.gui.preview_maker import PreviewMaker
from napari_ectkd.gui.preview_view import PreviewView
from napari_ectkd.gui.session import Session
from napari_ectkd.gui.status import JobStatus
from napari_ectkd.io.star import read_picks
from napari_ectkd.simulation.config import SubtomogramSimulation, TomogramSimulation
from napari_ectkd.simulation.imaging_config import ImagingConfig
from napari_ectkd.simulation.settings_file import write_settings

if TYPE_CHECKING:
    import napari
    from qtpy.QtGui import QHideEvent, QShowEvent

    from napari_ectkd.simulation.config import Simulation
    from napari_ectkd.simulation.preview import Preview

_SUBTOMOGRAMS, _TOMOGRAM = "subtomograms", "tomogram"
_PAUSE_MS = 250
_AT_ONCE = ["per_class", "none", "volume_fraction", "shape", "box", "voxel_size"]
_AT_ONCE += ["snr", "tilt_range"]
_IMAGING = [name for name in ImagingConfig.model_fields if name != "tilt_range"]


class SimulatePanel(Panel):
    """Densities, imaging, a live preview, and a data set or a tomogram made of them."""

    train_requested = Signal(object)
    stream_requested = Signal(object)

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self.session = Session.of(napari_viewer)
        self.job = self.jobs.job("Simulation")
        self.densities = DensityList()
        self.what = ChoiceEdit(
            [
                (_SUBTOMOGRAMS, "subtomograms to train on"),
                (_TOMOGRAM, "a tomogram with its truth"),
            ]
        )
        self.forms = {
            _SUBTOMOGRAMS: _form(
                SubtomogramSimulation(out=Path("simulated"), per_class=200, none=200)
            ),
            _TOMOGRAM: _form(
                TomogramSimulation(
                    out=Path("tomogram.mrc"),
                    truth=Path("truth.star"),
                    volume_fraction=0.1,
                ),
                "truth",
                "labels",
            ),
        }
        self.pages = QStackedWidget()
        self.preview = PreviewView(self.session.palette)
        self.maker = PreviewMaker(self)
        self.with_labels = QCheckBox("with what each voxel belongs to, as labels")
        self.with_labels.setToolTip(
            "<qt>One more MRC file: 0 for ice, else the row of the truth + 1</qt>"
        )
        self.out = QLineEdit()
        self.browse_button = QPushButton("…")
        self.start_button = QPushButton()
        self.stream_button = QPushButton("Train on it without writing it")
        self.status = JobStatus(self.job)
        self.train_button = QPushButton("Train on it")
        self._made: Path | None = None
        self._folder: tempfile.TemporaryDirectory | None = None
        self._pause = QTimer(self, singleShot=True, interval=_PAUSE_MS)
        self._build()
        self._connect()
        self._on_what()

    def config(self) -> Simulation:
        """Return the simulation as it is shown.

        Raises
        ------
        ConfigError
            If the values do not go together.
        """
        values = self.forms[self.what.value()].value().model_dump()
        values["density"] = self.densities.value()
        out = Path(self.out.text().strip()).expanduser()
        if self.what.value() == _SUBTOMOGRAMS:
            return SubtomogramSimulation.model_validate(values | {"out": out})
        if out.suffix.lower() not in {".mrc", ".rec", ".map"}:
            raise ConfigError("A tomogram is written as .mrc (or .rec, .map)")
        values |= {"out": out, "truth": out.with_name(f"{out.stem}-truth.star")}
        if self.with_labels.isChecked():
            values["labels"] = out.with_name(f"{out.stem}-labels.mrc")
        return TomogramSimulation.model_validate(values)

    def problem(self) -> str:
        """Return why nothing can be simulated, or nothing."""
        if self.job.is_active:
            return "A simulation is at work; cancel it, or wait"
        if not self.out.text().strip():
            return "Say where to write it"
        try:
            self.config()
        except EctkdError as error:
            return str(error)
        return ""

    def start(self) -> None:
        """Simulate what is shown, in a process of its own."""
        try:
            config = self.config()
            self._folder = tempfile.TemporaryDirectory(prefix="ectkd-simulate-")
            folder = Path(self._folder.name)
            command = ["simulate", self.what.value(), *arguments(config)]
            self.job.start([*command, "--job", str(folder)], folder)
        except EctkdError as error:
            self.status.say(str(error), is_error=True)
            return
        self._made = config.out
        self.train_button.hide()
        self.status.clear()
        self._refresh()
        self.look_at(self.status)

    def stream(self) -> None:
        """Write the settings beside where the data set would be, to train on them."""
        path = Path(self.out.text().strip()).expanduser().with_suffix(".json")
        try:
            write_settings(self.config(), path)
        except EctkdError as error:
            self.status.say(str(error), is_error=True)
            return
        self.status.say(f"The settings are in {path}.")
        self.stream_requested.emit(path)

    def showEvent(self, event: QShowEvent) -> None:
        """Draw what has changed since the panel was last seen."""
        super().showEvent(event)
        self._pause.start()

    def hideEvent(self, event: QHideEvent) -> None:
        """Draw nothing that nobody sees."""
        super().hideEvent(event)
        self._pause.stop()
        self.maker.stop()

    def _build(self) -> None:
        self.add_heading("Densities")
        self.column.addWidget(self.densities)
        self.add_heading("Simulate")
        self.column.addWidget(self.what)
        for form in self.forms.values():
            self.pages.addWidget(form)
        self.column.addWidget(self.pages)
        self.add_heading("Preview: one subtomogram of each class")
        self.column.addWidget(self.preview)
        rows = QFormLayout()
        row = QHBoxLayout()
        row.addWidget(self.out, 1)
        self.browse_button.setMaximumWidth(32)
        self.browse_button.setToolTip("Choose where")
        row.addWidget(self.browse_button)
        rows.addRow("Write to", row)
        self.column.addLayout(rows)
        self.column.addWidget(self.with_labels)
        self.column.addWidget(self.start_button)
        self.column.addWidget(self.stream_button)
        self.column.addWidget(self.status)
        self.column.addWidget(self.train_button)
        self.train_button.setToolTip("Take this data set to the panel that trains")
        self.train_button.hide()
        self.column.addStretch(1)

    def _connect(self) -> None:
        self.what.valueChanged.connect(self._on_what)
        for form in self.forms.values():
            for editor in form.editors.values():  # the form is silent of what is wrong
                editor.valueChanged.connect(self._changed)
        self.densities.valueChanged.connect(self._changed)
        self.out.textChanged.connect(self._refresh)
        self.browse_button.clicked.connect(self._browse)
        self.start_button.clicked.connect(self.start)
        self.stream_button.clicked.connect(self.stream)
        self.train_button.clicked.connect(lambda: self.train_requested.emit(self._made))
        self._pause.timeout.connect(self._draw)
        self.maker.made.connect(self._on_preview)
        self.maker.failed.connect(self._on_no_preview)
        self.job.done.connect(self._on_done)
        self.job.ended.connect(self._on_ended)

    def _on_what(self) -> None:
        what = self.what.value()
        before = self.pages.currentWidget()
        form = self.forms[what]
        if before is not form:
            # What both have stays as it was set.
            shared = {
                name: value
                for name, value in before.value()
                if name in form.editors and name not in ("per_class", "noise")
            }
            form.setValue(form.value().model_copy(update=shared))
        self.pages.setCurrentWidget(form)
        for page in self.forms.values():  # the column is as long as what it shows
            page.setVisible(page is form)
        home = self.session.folder or Path.home()
        is_set = what == _SUBTOMOGRAMS
        self.out.setText(str(home / ("simulated" if is_set else "simulated.mrc")))
        self.with_labels.setVisible(not is_set)
        self.stream_button.setVisible(is_set)
        self.start_button.setText("Make the data set" if is_set else "Make it")
        self._changed()

    def _changed(self) -> None:
        self._refresh()
        if self.isVisible():
            self._pause.start()

    def _refresh(self) -> None:
        problem = self.problem()
        set_problem(self.start_button, problem, "Runs in a process of its own")
        set_problem(
            self.stream_button,
            problem,
            "New subtomograms are made while a network learns; only the settings are "
            "written",
        )

    def _draw(self) -> None:
        try:
            config = self.config()
        except EctkdError as error:
            self.preview.say(str(error))
            return
        self.preview.say("drawing…")
        self.maker.make(config)

    def _on_preview(self, preview: Preview) -> None:
        self.densities.show_preview(preview)
        self.preview.show_preview(preview)

    def _on_no_preview(self, text: str) -> None:
        self.densities.say(text)
        self.preview.say("No preview: see the densities above.")

    def _browse(self) -> None:
        if self.what.value() == _SUBTOMOGRAMS:
            title = "A new or empty folder for the data set"
            name = QFileDialog.getExistingDirectory(self, title)
        else:
            name, _ = QFileDialog.getSaveFileName(
                self, "Write the tomogram", self.out.text(), "MRC (*.mrc *.rec *.map)"
            )
        if name:
            self.out.setText(name)

    def _on_done(self, result: dict[str, Any]) -> None:
        if self._made is None:
            return  # another panel of this window started it
        classes = ", ".join(result["classes"])
        if self._made.suffix.lower() not in {".mrc", ".rec", ".map"}:
            self.status.say(
                f"{result['n']} subtomograms of {classes} are in {self._made}."
            )
            self.train_button.show()
            self.look_at(self.train_button)
            return
        self.status.say(f"A tomogram with {result['n']} particles of {classes}.")
        try:
            tomogram = self.session.open_tomogram(self._made)
            truth = read_picks(self._made.with_name(f"{self._made.stem}-truth.star"))
        except EctkdError as error:
            self.status.say(str(error), is_error=True)
            return
        self.session.book.join(tomogram.name, truth, "truth of the simulation")

    def _on_ended(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
        self._refresh()


def _form(config: Simulation, *hidden: str) -> Form:
    known = type(config).model_fields
    return Form(
        config,
        [name for name in _AT_ONCE if name in known],
        hidden=["out", "density", *hidden],
        groups={"Microscope, tilt series, noise": _IMAGING},
    )
