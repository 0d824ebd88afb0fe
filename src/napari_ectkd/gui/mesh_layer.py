"""A surface layer with the particles of the current tomogram, in 3D only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_ectkd.gui.class_codes import class_codes
from napari_ectkd.gui.layers import AXES, KEY
from napari_ectkd.gui.mesh_loader import MeshLoader
from napari_ectkd.gui.meshes import meshes_within, place
from napari_ectkd.gui.overlay import is_visible, shown_class
from napari_ectkd.gui.palette import rgb
from napari_ectkd.simulation.orientations import rotations_of

if TYPE_CHECKING:
    from napari.layers import Surface
    from napari.utils.colormaps import Colormap
    from numpy.typing import NDArray

    from napari_ectkd.gui.session import Session
    from napari_ectkd.io.picks import Picks

MAX_TRIANGLES = 400_000
"""Of all particles together: more is slow to turn without a graphics card."""
_WAIT_MS = 100
"""Changes come in rows, as a slider moves; the last one counts."""
_NOTHING = (
    np.array([[0.0, 0, 0], [0, 1, 0], [0, 0, 1]]),
    np.array([[0, 1, 2]]),
    np.zeros(3),
)
"""What a hidden layer holds: napari cannot draw a mesh without triangles, and steps
through slices by the extent of hidden layers too."""


class Drawn(NamedTuple):
    """How many particles are drawn.

    Attributes
    ----------
    n
        Drawn, with those unturned.
    n_unturned
        Those without angles.
    n_left_out
        Those that would have been too many.
    """

    n: int
    n_unturned: int
    n_left_out: int


class ParticleMeshes(QObject):
    """Keeps the layer in step with picks, filters, classes and densities.

    `drawn` comes whenever the layer may have changed; see `text`.
    """

    drawn = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.text = ""
        self.loader = MeshLoader()
        self._session = session
        self._timer = QTimer(self, singleShot=True, interval=_WAIT_MS)
        self._timer.timeout.connect(self.update)
        for signal in (
            session.picks_changed,
            session.overlay_changed,
            session.classes_changed,
            session.current_changed,
            self.loader.loaded,
        ):
            signal.connect(self._timer.start)
        session.viewer.dims.events.ndisplay.connect(self._on_ndisplay)
        session.viewer.layers.events.removed.connect(self._on_removed)

    def update(self) -> None:
        """Draw what is to be seen now."""
        session = self._session
        if not session.layers.has_viewer:
            return
        tomogram, overlay = session.current, session.overlay
        if not overlay.has_meshes or tomogram is None:
            self._hide()
            self._say("")
            return
        if session.viewer.dims.ndisplay != 3:
            self._hide()
            self._say("They are seen in 3D: press the cube below the list of layers.")
            return
        files = {
            name: path
            for name, path in overlay.densities.items()
            if name in session.classes
        }
        self.loader.load(files.values())
        picks = session.picks(tomogram.name)
        shown = shown_class(picks, overlay)
        visible = is_visible(picks, shown, session.hidden, overlay, tomogram)
        levels = self.loader.levels(files)
        where = {name: np.flatnonzero(visible & shown.is_in({name})) for name in levels}
        data, result = particles(picks, levels, where)
        if data is None:
            self._hide()
        else:
            vertices, triangles, values = data
            self._show(vertices / tomogram.voxel_size, triangles, values, list(levels))
        if self.loader.is_active:
            self._say("Making meshes…")
            return
        bare = [name for name in session.classes if name not in files]
        self._say(_sentence(result, bare, self.loader.problems(files)))

    def _say(self, text: str) -> None:
        self.text = text
        self.drawn.emit()

    def _layer(self) -> Surface | None:
        layers = self._session.viewer.layers
        return next((layer for layer in layers if _is_meshes(layer)), None)

    def _show(
        self,
        vertices: NDArray[np.float64],
        triangles: NDArray[np.int64],
        values: NDArray[np.float64],
        classes: list[str],
    ) -> None:
        """Show a mesh in voxels, its vertices colored by number of class."""
        from napari.layers import Surface

        tomogram, viewer = self._session.current, self._session.viewer
        layer = self._layer()
        colors = _steps([self._session.palette.color(name) for name in classes])
        data = (vertices, triangles, (values + 0.5) / len(colors.colors))
        scale = (tomogram.voxel_size,) * 3
        if layer is not None:
            # Each is a redraw: only what has changed is set.
            if not np.array_equal(layer.colormap.colors, colors.colors):
                layer.colormap = colors
            if not np.array_equal(layer.scale, scale):
                layer.scale = scale
            layer.data = data
            if not layer.visible:
                layer.visible = True
            return
        active = viewer.layers.selection.active
        viewer.add_layer(
            Surface(
                data,
                name="particles as densities",
                scale=scale,
                units="angstrom",
                axis_labels=AXES,
                colormap=colors,
                contrast_limits=(0.0, 1.0),
                shading="smooth",
                metadata={KEY: {"meshes": True}},
            )
        )
        viewer.layers.selection.active = active  # the picks, which are clicked at

    def _hide(self) -> None:
        layer = self._layer()
        if layer is not None and layer.visible:
            layer.data = _NOTHING
            layer.visible = False

    def _on_ndisplay(self, event: object) -> None:
        self.update()

    def _on_removed(self, event: object) -> None:
        if _is_meshes(event.value):  # the user took it away
            self._session.set_overlay(has_meshes=False)


def particles(
    picks: Picks,
    levels: dict[str, tuple[Any, ...]],
    where: dict[str, NDArray[np.intp]],
) -> tuple[
    tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]] | None, Drawn
]:
    """Return one mesh of all particles; the surest ones if that would be too large.

    Parameters
    ----------
    picks
        Of one tomogram.
    levels
        The meshes of each class, see `mesh_levels`.
    where
        Which picks are of a class.

    Returns
    -------
    data
        `(v, 3)` vertices, Å zyx, `(t, 3)` triangles and `(v,)` which class; or None.
    drawn
        How many.
    """
    counts = {name: len(index) for name, index in where.items()}
    chosen = meshes_within(levels, counts, MAX_TRIANGLES)
    kept = _surest(picks, where, {n: len(m.triangles) for n, m in chosen.items()})
    vertices, triangles, values = [], [], []
    n_vertices = n_unturned = 0
    for number, (name, index) in enumerate(kept.items()):
        angles = picks.angles[index]
        n_unturned += int((~np.isfinite(angles).all(axis=1)).sum())
        mesh = place(chosen[name], picks.positions[index], rotations_of(angles))
        vertices.append(mesh.vertices)
        triangles.append(mesh.triangles + n_vertices)
        values.append(np.full(len(mesh.vertices), float(number)))
        n_vertices += len(mesh.vertices)
    n = sum(len(index) for index in kept.values())
    drawn = Drawn(n, n_unturned, sum(counts.values()) - n)
    if not n:
        return None, drawn
    return (
        np.concatenate(vertices),
        np.concatenate(triangles),
        np.concatenate(values),
    ), drawn


def _surest(
    picks: Picks, where: dict[str, NDArray[np.intp]], triangles: dict[str, int]
) -> dict[str, NDArray[np.intp]]:
    """Return which picks of each class are drawn: labels first, then by confidence."""
    names = list(where)
    index = np.concatenate([*where.values(), np.empty(0, dtype=np.intp)])
    owner = np.repeat(np.arange(len(names)), [len(where[name]) for name in names])
    cost = np.array([triangles[name] for name in names], dtype=np.int64)[owner]
    if cost.sum() <= MAX_TRIANGLES:
        return where
    sureness = np.nan_to_num(picks.confidence[index], nan=1.0)
    sureness[class_codes(picks).is_labeled[index]] = 2.0
    order = np.argsort(-sureness, kind="stable")
    kept = order[np.cumsum(cost[order]) <= MAX_TRIANGLES]
    return {name: index[kept[owner[kept] == i]] for i, name in enumerate(names)}


def _sentence(drawn: Drawn, bare: list[str], problems: list[str]) -> str:
    text = f"{drawn.n:,} particles are drawn as densities"
    if drawn.n_unturned == drawn.n > 0:
        text += ", all unturned, as picks without angles are"
    elif drawn.n_unturned:
        text += f", {drawn.n_unturned:,} of them unturned: they have no angles"
    text += "."
    if drawn.n_left_out:
        text += (
            f" {drawn.n_left_out:,} less sure ones are left out, as too many triangles "
            "are slow to turn: filter by class, confidence or box to see them."
        )
    if bare:
        text += f" Points only, for want of a density: {', '.join(bare)}."
    return " ".join([text, *problems])


def _is_meshes(layer: Any) -> bool:
    facts = layer.metadata.get(KEY, {})
    return isinstance(facts, dict) and "meshes" in facts


def _steps(colors: list[str]) -> Colormap:
    """Return a colormap of equal steps, one for each `#rrggbb`, and one of none."""
    from napari.utils.colormaps import Colormap

    # One step cannot be drawn.
    steps = [*([*rgb(color), 1] for color in colors), [0, 0, 0, 0]]
    return Colormap(
        steps,
        name="classes of particles",
        controls=np.linspace(0, 1, len(steps) + 1),
        interpolation="zero",
    )
