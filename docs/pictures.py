"""Makes pictures of the window for these pages, from what `ectkd demo` left.

    ectkd demo --out demo
    python docs/pictures.py demo docs/images

It writes `overlay.png`, `filters.png` and `sweep.png`, and with `--densities FOLDER`
(see `real-data.md`) `simulate.png`. It needs a screen, or a virtual one (`xvfb-run -a
-s "-screen 0 1600x1000x24"` before the command).
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import napari
from qtpy.QtCore import QEventLoop
from qtpy.QtWidgets import QApplication

from napari_ectkd.cli.demo import TILT_RANGE
from napari_ectkd.gui.studio import StudioPanel
from napari_ectkd.gui.view import WINDOW, fill, save_screenshot
from napari_ectkd.io.tomogram import open_tomogram

CUT_CLASS = "tripod"
MAP_CLASS = "shell"
COMPLEXES = ("1bxn", "4cr2", "3j9i", "4v4r")


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path, help="folder of `ectkd demo`")
    parser.add_argument("out", type=Path, help="folder for the pictures")
    parser.add_argument("--densities", type=Path, help="folder of MRC maps")
    given = parser.parse_args()
    if given.densities is not None:
        make_simulate(given.densities.resolve(), given.out / "simulate.png")
    with tempfile.TemporaryDirectory() as folder:
        # The window saves what it shows beside the tomogram.
        path = Path(shutil.copy(given.demo / "tomogram.mrc", folder))
        viewer = open_viewer()
        tomogram = open_tomogram(path, is_inverted=False, tilt_range=TILT_RANGE)
        panel = fill(viewer, tomogram, given.demo / "classes.star").classify
        panel.model.setValue((given.demo / "student").resolve())
        save_screenshot(viewer, given.out / "overlay.png")
        show_filters(panel)
        save_screenshot(viewer, given.out / "filters.png")
        sweep(panel)
        where = panel.maps.text  # the folder is nobody's, and long
        where.setText(where.text().replace(folder, "…"))
        save_screenshot(viewer, given.out / "sweep.png")
        viewer.close()


def open_viewer() -> napari.Viewer:
    """Open a window of the size of all pictures."""
    viewer = napari.Viewer(title="napari-ectkd", show=True)
    viewer.window.resize(*WINDOW)
    return viewer


def make_simulate(densities: Path, picture: Path) -> None:
    """Simulate a crowded tomogram in the panel, and save what is seen then."""
    viewer = open_viewer()
    studio = StudioPanel(viewer)
    viewer.window.add_dock_widget(studio, name="Studio", area="right")
    panel = studio.simulate
    studio.tabs.setCurrentWidget(panel)
    panel.densities.setValue([densities / f"{name}.mrc" for name in COMPLEXES])
    panel.what.setValue("tomogram")
    editors = panel.forms["tomogram"].editors
    editors["shape"].setValue((96, 224, 224))
    editors["snr"].setValue(0.3)
    preview = QEventLoop()
    panel.maker.made.connect(preview.quit)
    preview.exec()
    with tempfile.TemporaryDirectory() as folder:
        panel.out.setText(str(Path(folder) / "crowded.mrc"))
        wait_for(panel, panel.start_button)
        panel.out.setText("crowded.mrc")
        viewer.reset_view()
        viewer.dims.set_point(0, 48 * 10)
        scroll_to(panel, panel.status)
        save_screenshot(viewer, picture)
        viewer.close()


def show_filters(panel) -> None:
    """Cut a class at the suggestion, and leave out the lowest quarter in y."""
    panel.histogram.choose(CUT_CLASS)
    panel.histogram.set_cut(panel.histogram.suggestion())
    panel.filters.region_box.setChecked(True)
    side = panel.filters.ranges[1]
    side.setValue((0, round(0.75 * side.maximum())))
    scroll_to(panel, panel.histogram, above=panel.classes)


def sweep(panel) -> None:
    """Take the filters away, search the tomogram, and show a map of scores."""
    panel.filters.region_box.setChecked(False)
    panel.histogram.set_cut(None)
    panel.what.setValue("sweep")
    panel.keep_scores.setChecked(True)
    wait_for(panel, panel.start_button)
    panel.maps.choice.setCurrentText(MAP_CLASS)
    scroll_to(panel, panel.hits)


def wait_for(panel, button) -> None:
    """Click a button, and wait until the panel's job has ended."""
    wait = QEventLoop()
    panel.job.ended.connect(wait.quit)
    button.click()
    wait.exec()
    if panel.status.is_error:
        raise RuntimeError(panel.status.message.text())


def scroll_to(panel, widget, above=None) -> None:
    """Show a widget of a panel, and if there is room what is above it."""
    QApplication.processEvents()
    panel.area.ensureWidgetVisible(widget)
    if above is not None:
        panel.area.ensureWidgetVisible(above)


if __name__ == "__main__":
    main()
