"""Makes pictures of the window for these pages, from what `ectkd demo` left.

    ectkd demo --out demo
    python docs/pictures.py demo docs/images

It writes `overlay.png`, `filters.png` and `sweep.png`. It needs a screen, or a virtual
one: `xvfb-run -a -s "-screen 0 1600x1000x24" python …`.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import napari
from qtpy.QtCore import QEventLoop
from qtpy.QtWidgets import QApplication

from napari_ectkd.cli.demo import TILT_RANGE
from napari_ectkd.gui.view import WINDOW, fill, save_screenshot
from napari_ectkd.io.tomogram import open_tomogram

CUT_CLASS = "tripod"
MAP_CLASS = "shell"


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path, help="folder of `ectkd demo`")
    parser.add_argument("out", type=Path, help="folder for the pictures")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # The window saves what it shows beside the tomogram.
        path = Path(shutil.copy(given.demo / "tomogram.mrc", folder))
        viewer = napari.Viewer(title="napari-ectkd", show=True)
        viewer.window.resize(*WINDOW)
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
    wait = QEventLoop()
    panel.job.ended.connect(wait.quit)
    panel.start_button.click()
    wait.exec()
    if panel.status.is_error:
        raise RuntimeError(panel.status.message.text())
    panel.maps.choice.setCurrentText(MAP_CLASS)
    scroll_to(panel, panel.hits)


def scroll_to(panel, widget, above=None) -> None:
    """Show a widget of a panel, and if there is room what is above it."""
    QApplication.processEvents()
    panel.area.ensureWidgetVisible(widget)
    if above is not None:
        panel.area.ensureWidgetVisible(above)


if __name__ == "__main__":
    main()
