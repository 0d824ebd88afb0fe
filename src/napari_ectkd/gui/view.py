"""A napari window from the command line: a tomogram, its picks, and the studio."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ectkd.errors import EctkdError
from napari_ectkd.io.atomic import atomic_path

if TYPE_CHECKING:
    from pathlib import Path

    import napari

    from napari_ectkd.gui.studio import StudioPanel
    from napari_ectkd.io.tomogram import Tomogram

WINDOW = (1500, 950)
LOW_PASS = 40.0
"""Å, so that something is seen at once; can be changed in the panel."""


def show(
    tomogram: Tomogram,
    picks: Path | None,
    model: Path | None,
    screenshot: Path | None,
) -> None:
    """Open napari with a tomogram, its picks and the studio; return when it is closed.

    Parameters
    ----------
    tomogram
        What to show.
    picks
        A STAR file, or nothing.
    model
        A run to offer for classifying, or nothing.
    screenshot
        PNG file to save the window to; it is closed then without waiting for a person.

    Raises
    ------
    EctkdError
        If the picks cannot be read or the picture not be written.
    """
    import os
    import sys

    if sys.platform == "linux" and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        raise EctkdError(
            "there is no screen to open a window on; run it on a desktop, or on a "
            "virtual screen: xvfb-run -a ectkd view …"
        )
    import napari
    from qtpy.QtCore import QThreadPool

    viewer = napari.Viewer(title="napari-ectkd", show=True)
    viewer.window.resize(*WINDOW)
    studio = fill(viewer, tomogram, picks)
    if model is not None:
        studio.classify.model.setValue(model.resolve())
    if screenshot is None:
        napari.run()
        return
    save_screenshot(viewer, screenshot)
    # The search for devices would report to a window that is gone.
    QThreadPool.globalInstance().waitForDone()
    viewer.close()


def fill(viewer: napari.Viewer, tomogram: Tomogram, picks: Path | None) -> StudioPanel:
    """Put the studio, a tomogram and its picks into a window; return the studio."""
    from napari_ectkd.gui.session import Session
    from napari_ectkd.gui.studio import StudioPanel
    from napari_ectkd.io.star import read_picks

    found = None if picks is None else read_picks(picks)
    studio = StudioPanel(viewer)
    viewer.window.add_dock_widget(studio, name="Studio", area="right")
    session = Session.of(viewer)
    session.open_tomogram(
        tomogram.path,
        voxel_size=tomogram.voxel_size,
        is_inverted=None if tomogram.contrast_is_guessed else tomogram.is_inverted,
        tilt_range=tomogram.tilt_range,
    )
    image = session.layers.image(tomogram.name)
    image.data.settings.low_pass = LOW_PASS
    image.contrast_limits = image.data.contrast_limits()
    studio.pick.display.refresh()
    if found is not None:
        here = found.in_tomogram(tomogram.name)
        if not len(here) and set(found.tomogram) == {""}:
            here = found
        if not len(here):
            names = ", ".join(sorted(set(found.tomogram))[:5]) or "none"
            session.said.emit(
                f"{picks.name} has no picks of {tomogram.name}, but of: {names}", True
            )
        # Joined: what a person picked and labeled here before is not to be lost.
        session.book.join(tomogram.name, here, "load picks")
        studio.tabs.setCurrentWidget(studio.classify)
    viewer.dims.set_point(0, tomogram.extent[0] / 2)
    viewer.reset_view()
    return studio


def save_screenshot(viewer: napari.Viewer, path: Path) -> None:
    """Save the whole window as PNG, once it is drawn."""
    import imageio.v3 as imageio
    from qtpy.QtWidgets import QApplication

    for _ in range(10):
        QApplication.processEvents()
    picture = viewer.window.screenshot(canvas_only=False, flash=False)
    with atomic_path(path) as temporary:
        imageio.imwrite(temporary, picture, extension=".png")
