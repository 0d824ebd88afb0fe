"""The layers of a viewer that show tomograms and their picks."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import ref

from qtpy.QtCore import QObject, QTimer, Signal

from napari_ectkd.gui.layers import (
    add_picks_layer,
    layer_picks_name,
    layer_tomogram,
    paint_picks,
    put_picks,
    take_picks,
)

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Points

    from napari_ectkd.gui.looks import Looks
    from napari_ectkd.io.picks import Picks
    from napari_ectkd.io.tomogram import Tomogram


class TomogramLayers(QObject):
    """Finds, makes and watches an image and a points layer for each tomogram.

    `inserted` carries a tomogram whose image layer a reader or a person added, `closed`
    the name of one whose image layer went, `edited` the name of one whose points
    somebody changed and what was done, `lost` that of one whose points layer was
    deleted: it has an empty one again.

    Parameters
    ----------
    viewer
        Whose layers; kept weakly, else no viewer would ever be freed.
    tomograms
        The open ones, by name; others keep it up to date.
    """

    inserted = Signal(object)
    closed = Signal(str)
    edited = Signal(str, str)
    lost = Signal(str)

    def __init__(self, viewer: ViewerModel, tomograms: dict[str, Tomogram]) -> None:
        super().__init__()
        self._viewer = ref(viewer)
        self._tomograms = tomograms
        self._is_busy = False  # our own writing to layers is no change by the user
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)

    @property
    def viewer(self) -> ViewerModel:
        """The viewer of these layers."""
        viewer = self._viewer()
        if viewer is None:
            raise RuntimeError("the viewer of this session is gone")
        return viewer

    @property
    def has_viewer(self) -> bool:
        """Whether the viewer is still there: a timer may ring after it has gone."""
        return self._viewer() is not None

    def image(self, name: str) -> Image | None:
        """Return the layer that shows a tomogram."""
        for layer in self.viewer.layers:
            tomogram = layer_tomogram(layer)
            if tomogram is not None and tomogram.name == name:
                return layer
        return None

    def points(self, name: str) -> Points | None:
        """Return the layer with the picks of a tomogram."""
        for layer in self.viewer.layers:
            if layer_picks_name(layer) == name:
                return layer
        return None

    def announce(self) -> None:
        """Say `inserted` of the tomograms that the viewer shows already."""
        for layer in list(self.viewer.layers):
            self._announce(layer)

    def add_points(self, name: str) -> None:
        """Add the layer for the picks of a tomogram."""
        layer = add_picks_layer(self.viewer, self._tomograms[name])
        layer.events.data.connect(lambda event: self._on_data(name, event))

    def show_only(self, name: str) -> None:
        """Show one tomogram with its picks, and hide the others."""
        for layer in self.viewer.layers:
            tomogram = layer_tomogram(layer)
            owner = tomogram.name if tomogram else layer_picks_name(layer)
            if owner is not None:
                layer.visible = owner == name
        points = self.points(name)
        if points is not None:
            self.viewer.layers.selection.active = points

    def set_thickness(self, diameter: float) -> None:
        """Show the particles around a slice, not only those exactly on it."""
        self.viewer.dims.thickness = (diameter,) * self.viewer.dims.ndim

    def state(self, tomogram: Tomogram) -> None:
        """Show a tomogram as it was said to be: contrast sign or tilt range."""
        image = self.image(tomogram.name)
        if image is not None:
            image.data.tomogram = tomogram
            image.metadata = {"ectkd": {"tomogram": tomogram}}
            image.contrast_limits_range = image.contrast_limits = (
                image.data.contrast_limits()
            )
            image.refresh()

    def put(
        self,
        name: str,
        picks: Picks,
        looks: Looks,
    ) -> None:
        """Put picks into the layer of their tomogram, if it is there, and paint it."""
        layer = self.points(name)
        if layer is None:
            return
        self._is_busy = True
        try:
            put_picks(layer, picks, self._tomograms[name], looks.overlay)
            self.paint(name, looks)
        finally:
            self._is_busy = False

    def paint(self, name: str, looks: Looks) -> None:
        """Give the picks of a tomogram their color, size and visibility."""
        layer = self.points(name)
        if layer is not None:
            paint_picks(layer, looks, self._tomograms[name])

    def take(self, name: str) -> Picks:
        """Return the picks of a tomogram as its layer shows them now."""
        return take_picks(self.points(name), self._tomograms[name])

    def _on_inserted(self, event: object) -> None:
        self._announce(event.value)

    def _announce(self, layer: object) -> None:
        tomogram = layer_tomogram(layer)
        if tomogram is not None and tomogram.name not in self._tomograms:
            self.inserted.emit(tomogram)

    def _on_removed(self, event: object) -> None:
        tomogram = layer_tomogram(event.value)
        name = tomogram.name if tomogram else layer_picks_name(event.value)
        if name not in self._tomograms or self._is_busy:
            return
        # Layers are put right afterwards: napari may be removing all of them.
        QTimer.singleShot(0, self._settle)
        if tomogram is not None and self.image(name) is None:  # may be opened twice
            self.closed.emit(name)

    def _settle(self) -> None:
        """Bring back points layers that were deleted; drop those of no use."""
        viewer = self._viewer()
        if viewer is None:
            return
        for layer in list(viewer.layers):
            name = layer_picks_name(layer)
            if name is not None and name not in self._tomograms:
                viewer.layers.remove(layer)
        for name in self._tomograms:
            if self.points(name) is None:
                self.add_points(name)
                self.lost.emit(name)

    def _on_data(self, name: str, event: object) -> None:
        action = str(getattr(event, "action", ""))
        if not self._is_busy and action in {"added", "removed", "changed"}:
            self.edited.emit(name, action)
