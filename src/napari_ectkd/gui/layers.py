"""Tomograms and picks as napari layers, and back.

This module alone builds layers. Layers hold voxels of their tomogram, with its voxel
size as scale and ångström as units. The features `label`, `prediction`, `confidence`,
`class` (what a pick is shown as) and `pick_id` are ours; what a layer has no room for
(probabilities, angles, foreign columns) waits in its metadata and finds its pick by id.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_ectkd.gui.display import DisplayedVolume
from napari_ectkd.gui.overlay import (
    Overlay,
    is_visible,
    opacity,
    shown_class,
    shown_diameters,
)
from napari_ectkd.gui.palette import Palette, rgb
from napari_ectkd.io.picks import UNLABELED, Picks

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Points
    from numpy.typing import NDArray

    from napari_ectkd.gui.class_codes import Named
    from napari_ectkd.gui.looks import Looks
    from napari_ectkd.io.tomogram import Tomogram

AXES = ("z", "y", "x")
FILL, BORDER = 0.2, 0.09
"""Opacity of a point's disk and width of its ring, as a share of its diameter: the
particle inside must be seen."""
KEY = "ectkd"
"""Where our own things are in a layer's metadata."""

_NEW_POINT = {
    "class": UNLABELED,
    "label": UNLABELED,
    "prediction": UNLABELED,
    "confidence": np.nan,
    "pick_id": 0,
}
"""Features of a point that the user adds; its id and label come afterwards."""


def tomogram_layer_data(tomogram: Tomogram) -> tuple[DisplayedVolume, dict[str, Any]]:
    """Return what napari needs to make the image layer of a tomogram."""
    volume = DisplayedVolume(tomogram)
    return volume, {
        "name": tomogram.name,
        "scale": (tomogram.voxel_size,) * 3,
        "units": "angstrom",
        "axis_labels": AXES,
        # The slab of the points is not the image's: that has a setting of its own.
        "projection_mode": "none",
        "contrast_limits": volume.contrast_limits(),
        "metadata": {KEY: {"tomogram": tomogram}},
    }


def add_tomogram_layer(viewer: ViewerModel, tomogram: Tomogram) -> Image:
    """Add the image layer of a tomogram."""
    volume, options = tomogram_layer_data(tomogram)
    return viewer.add_image(volume, multiscale=False, rgb=False, **options)


def layer_tomogram(layer: Any) -> Tomogram | None:
    """Return the tomogram that an image layer shows, if it is one of ours."""
    facts = layer.metadata.get(KEY, {})
    return facts.get("tomogram") if isinstance(facts, dict) else None


def add_picks_layer(viewer: ViewerModel, tomogram: Tomogram) -> Points:
    """Add an empty points layer for the picks of a tomogram."""
    return viewer.add_points(
        ndim=3,
        name=f"{tomogram.name} picks",
        scale=(tomogram.voxel_size,) * 3,
        units="angstrom",
        axis_labels=AXES,
        features=_features(Picks.empty(), Overlay()),
        feature_defaults=_NEW_POINT,
        border_width=BORDER,
        projection_mode="rescale_spherical",
        metadata={KEY: {"picks_of": tomogram.name, "picks": Picks.empty()}},
    )


def layer_picks_name(layer: Any) -> str | None:
    """Return the tomogram whose picks a points layer holds, if it is one of ours."""
    facts = layer.metadata.get(KEY, {})
    return facts.get("picks_of") if isinstance(facts, dict) else None


def put_picks(
    layer: Points, picks: Picks, tomogram: Tomogram, overlay: Overlay
) -> None:
    """Show picks in a layer; see `paint_picks` for their color and size."""
    layer.selected_data = set()
    places = picks.positions / tomogram.voxel_size
    if not np.array_equal(layer.data, places):
        layer.data = places
    _set_features(layer, _features(picks, overlay))
    layer.metadata = {KEY: {"picks_of": tomogram.name, "picks": picks}}


def take_picks(layer: Points, tomogram: Tomogram) -> Picks:
    """Return the picks of a layer, as a person may have moved, added or removed them.

    A point that was added or pasted gets a new id.
    """
    kept: Picks = layer.metadata[KEY]["picks"]
    positions = np.asarray(layer.data, dtype=np.float64) * tomogram.voxel_size
    return _picks_of(kept, layer.features, positions, tomogram.name)


def paint_picks(layer: Points, looks: Looks, tomogram: Tomogram) -> None:
    """Give a layer's points color, opacity and size, and hide some.

    Values are written into the layer's own arrays, and the layer drawn once: each of
    napari's setters draws all points, that of a color twice.
    """
    picks: Picks = layer.metadata[KEY]["picks"]
    overlay = looks.overlay
    shown = shown_class(picks, overlay)
    words = shown.words
    if not np.array_equal(layer.features["class"].to_numpy(dtype=object), words):
        _set_features(layer, layer.features.assign(**{"class": _column(words)}))
    if len(picks):
        colors = _rgba(looks.palette, shown)
        visible = is_visible(picks, shown, looks.hidden, overlay, tomogram)
        # In 3D napari draws points that are not shown too: these have no size, and the
        # dot that is left of them no color.
        colors[:, 3] = opacity(picks, shown, overlay) * visible
        diameters = shown_diameters(picks, shown, overlay, looks.diameter) * visible
        is_resized = _write(layer.size, diameters / tomogram.voxel_size)
        changes = [
            is_resized,
            _write(layer.border_color, colors),
            _write(layer.face_color, colors * (1, 1, 1, FILL)),
            _write(layer.shown, visible),
        ]
        if any(changes):
            layer.refresh(highlight=False, extent=is_resized)
    layer.current_size = looks.diameter / tomogram.voxel_size


def _write(into: NDArray, values: NDArray) -> bool:
    """Write values into an array; return whether they are others than before."""
    values = values.astype(into.dtype)
    if np.array_equal(into, values):
        return False
    into[...] = values
    return True


def _set_features(layer: Points, features: pd.DataFrame) -> None:
    """Give points features, column by column: napari's setter checks each for all."""
    if list(layer.features) == list(features):
        for name, column in features.items():
            layer.features[name] = column
        layer.text.refresh(layer.features)
        layer.events.properties()
        layer.events.features()
    else:  # somebody added or took away a column
        layer.features = features
    # napari would give the next point what the last one has, its id and label too.
    layer.feature_defaults = _NEW_POINT


def _features(picks: Picks, overlay: Overlay) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "class": _column(shown_class(picks, overlay).words),
            "label": _column(picks.label),
            "prediction": _column(picks.prediction),
            "confidence": picks.confidence,
            "pick_id": picks.pick_id,
        }
    )


def _column(words: NDArray[np.object_]) -> pd.Series:
    """Return words as they are: pandas would copy each into a type of its own."""
    return pd.Series(words, dtype=object)


def _rgba(palette: Palette, shown: Named) -> NDArray[np.float64]:
    """Return `(n, 4)` opaque colors of class names."""
    return shown.each(lambda name: (*rgb(palette.color(name)), 1.0))


def _words(column: pd.Series) -> NDArray[np.object_]:
    """Return names; napari fills what it adds to an empty table with None."""
    words: NDArray[np.object_] = column.to_numpy(dtype=object)
    return np.where(pd.isna(words), UNLABELED, words).astype(object)


def _unique_ids(
    pick_id: NDArray[np.int64], taken: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return ids with those of new (0) and pasted (repeated) points made new."""
    ids = pick_id.copy()
    is_new = pd.Index(ids).duplicated() | (ids <= 0)
    highest = max(int(ids.max(initial=0)), int(taken.max(initial=0)))
    ids[is_new] = highest + 1 + np.arange(int(is_new.sum()))
    return ids


def picks_layer_data(
    picks: Picks, name: str, diameter: float = 200.0
) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Return what napari needs to show the picks of a file, in ångström.

    The layer is a plain one: a session takes picks in by its own `Load STAR…`, which
    knows the tomogram. Its points are in Å, so that no voxel size is needed.
    """
    palette, shown = Palette(), shown_class(picks, Overlay())
    for class_name in sorted(shown.names):  # a session that loads them deals them so
        palette.color(class_name)
    colors = _rgba(palette, shown)
    return picks.positions, {
        "name": name or "picks",
        "features": _features(picks, Overlay()),
        "feature_defaults": _NEW_POINT,
        "border_color": colors,
        "face_color": colors * (1, 1, 1, FILL),
        "border_width": BORDER,
        "size": diameter,
        "scale": (1.0,) * 3,
        "units": "angstrom",
        "axis_labels": AXES,
        "projection_mode": "rescale_spherical",
        "metadata": {KEY: {"file_picks": picks}},
    }


def picks_of_layer_data(
    data: NDArray[np.float64], options: dict[str, Any]
) -> tuple[Picks, float]:
    """Return the picks of a points layer that napari is to save, and its voxel size.

    Any points layer will do: one of ours gives labels, predictions and columns back.
    """
    scale = [float(step) for step in options.get("scale", (1.0,) * 3)][-3:]
    facts = options.get("metadata", {}).get(KEY, {})
    kept = facts.get("picks", facts.get("file_picks")) if facts else None
    positions = np.asarray(data, dtype=np.float64)[:, -3:] * scale
    name = facts.get("picks_of", options.get("name", "")) if facts else ""
    features = pd.DataFrame(options.get("features", {}))
    if kept is not None and {"label", "pick_id"} <= set(features.columns):
        if len(set(kept.tomogram)) == 1:
            name = kept.tomogram[0]
        return _picks_of(kept, features, positions, name), scale[0]
    label = _words(features["label"]) if "label" in features else UNLABELED
    return Picks.create(positions, name, label=label), scale[0]


def _picks_of(
    kept: Picks, features: pd.DataFrame, positions: NDArray[np.float64], tomogram: str
) -> Picks:
    """Return picks at the positions in Å of points; by id, what was known of them."""
    pick_id = _unique_ids(_numbers(features["pick_id"]), kept.pick_id)
    label = _words(features["label"])
    if np.array_equal(pick_id, kept.pick_id):  # moved, or given another label
        return replace(
            kept,
            positions=_unmoved_kept(positions, kept.positions),
            tomogram=np.where(kept.tomogram == "", tomogram, kept.tomogram),
            label=label,
        )
    rows = pd.Index(kept.pick_id).get_indexer(pick_id)
    is_new = rows < 0
    probabilities = kept.probabilities.reindex(rows).reset_index(drop=True)
    # As objects, so that whole numbers stay so beside a new pick, which has none.
    foreign = kept.foreign.astype(object).reindex(rows).reset_index(drop=True)
    if not is_new.any():
        foreign = foreign.infer_objects()
    names = np.full(len(pick_id), tomogram, dtype=object)
    angles = np.full((len(pick_id), 3), np.nan)
    prediction = np.full(len(pick_id), UNLABELED, dtype=object)
    confidence = np.full(len(pick_id), np.nan)
    known, old = ~is_new, rows[~is_new]
    names[known] = np.where(kept.tomogram[old] == "", tomogram, kept.tomogram[old])
    angles[known] = kept.angles[old]
    prediction[known], confidence[known] = kept.prediction[old], kept.confidence[old]
    positions = positions.copy()
    positions[known] = _unmoved_kept(positions[known], kept.positions[old])
    return Picks.create(
        positions,
        names,
        label=label,
        prediction=prediction,
        confidence=confidence,
        probabilities=probabilities,
        angles=angles,
        pick_id=pick_id,
        foreign=foreign,
    )


def _unmoved_kept(
    now: NDArray[np.float64], before: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return coordinates, Å; what is as before keeps its value to the last digit."""
    return np.where(np.abs(now - before) < 1e-3, before, now)


def _numbers(column: pd.Series) -> NDArray[np.int64]:
    """Return ids; 0 for points that have none yet."""
    return column.fillna(0).to_numpy(dtype=np.int64)
