"""Tomograms and picks as napari layers, and back.

The only place that builds layers and knows their scale, units, feature columns, colors
and metadata. Points are in voxels, with the tomogram's voxel size as scale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from napari.layers import Image, Points

from napari_ectkd.gui.display import DisplaySettings, DisplayVolume, display_levels
from napari_ectkd.io.picks import UNKNOWN, UNLABELED, Picks

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from numpy.typing import NDArray

    from napari_ectkd.gui.palette import Palette
    from napari_ectkd.io.tomogram import Tomogram

TOMOGRAM_KEY = "ectkd_tomogram"
PICKS_KEY = "ectkd_picks"
UNITS = "angstrom"
COLUMNS = ("label", "prediction", "confidence", "pick_id", "class")
ANGLES = ("angle_rot", "angle_tilt", "angle_psi")
PROBABILITY = "probability "
FOREIGN = "foreign "
"""Before the name of a foreign column that is called like one of ours."""
_FILL = 0.3
"""Opacity of a point's face; its border is opaque, so the particle stays in sight."""


def tomogram_layer_data(tomogram: Tomogram) -> tuple[Any, dict, str]:
    """Return what makes an image layer of a tomogram: data, arguments, type."""
    levels = display_levels(tomogram)
    return (
        levels if len(levels) > 1 else levels[0],
        {
            "name": tomogram.name,
            "scale": (tomogram.voxel_size,) * 3,
            "units": (UNITS,) * 3,
            "contrast_limits": levels[0].contrast_limits(),
            "colormap": "gray",
            "multiscale": len(levels) > 1,
            "metadata": {TOMOGRAM_KEY: tomogram},
        },
        "image",
    )


def picks_layer_data(picks: Picks, voxel_size: float, name: str) -> tuple:
    """Return what makes a points layer of picks: data, arguments, type."""
    return (
        picks.positions / voxel_size,
        {
            "name": name,
            "features": picks_features(picks),
            "scale": (voxel_size,) * 3,
            "units": (UNITS,) * 3,
            "projection_mode": "rescale_spherical",
            "border_width": 0.1,
            "metadata": {PICKS_KEY: name},
        },
        "points",
    )


def add_tomogram_layer(viewer: ViewerModel, tomogram: Tomogram) -> Image:
    """Add a tomogram to the viewer, above other tomograms and below points."""
    data, arguments, _ = tomogram_layer_data(tomogram)
    layer = Image(data, **arguments)
    n_images = sum(isinstance(other, Image) for other in viewer.layers)
    viewer.layers.insert(n_images, layer)
    return layer


def picks_to_layer(picks: Picks, tomogram: Tomogram) -> Points:
    """Return a points layer of a tomogram's picks, not yet colored."""
    data, arguments, _ = picks_layer_data(picks, tomogram.voxel_size, tomogram.name)
    arguments["name"] = f"{tomogram.name} picks"
    return Points(data, ndim=3, **arguments)


def picks_features(picks: Picks) -> pd.DataFrame:
    """Return the feature columns of picks; `class` is what each counts as."""
    columns = {
        "label": picks.label,
        "prediction": picks.prediction,
        "confidence": picks.confidence,
        "pick_id": picks.pick_id,
        "class": picks.class_name,
    }
    columns |= dict(zip(ANGLES, picks.angles.T, strict=True))
    for name in picks.probabilities:
        columns[f"{PROBABILITY}{name}"] = picks.probabilities[name].to_numpy()
    for name in picks.foreign:
        is_ours = name in (*COLUMNS, *ANGLES) or str(name).startswith(
            (PROBABILITY, FOREIGN)
        )
        key = f"{FOREIGN}{name}" if is_ours else str(name)
        columns[key] = picks.foreign[name].to_numpy()
    return pd.DataFrame(columns)


def layer_to_picks(layer: Points, tomogram: Tomogram) -> Picks:
    """Return the picks of a layer; points pasted in napari get an id of their own."""
    table = pd.DataFrame(layer.features).reset_index(drop=True)
    n = len(layer.data)
    probabilities = [c for c in table if str(c).startswith(PROBABILITY)]
    known = {*COLUMNS, *ANGLES, *probabilities}
    foreign = table[[c for c in table if c not in known]]
    # Positions are those of the layer, wherever a user may have moved it.
    world = [layer.data_to_world(point) for point in layer.data]
    return Picks.create(
        np.asarray(world, dtype=float).reshape(-1, 3),
        tomogram.name,
        label=_words(table, "label"),
        prediction=_words(table, "prediction"),
        confidence=table.get("confidence"),
        probabilities=table[probabilities].rename(
            columns={c: str(c).removeprefix(PROBABILITY) for c in probabilities}
        ),
        angles=np.stack([table[a] for a in ANGLES], axis=1) if n else np.zeros((0, 3)),
        pick_id=unique_ids(table["pick_id"].to_numpy()),
        foreign=foreign.rename(
            columns={c: str(c).removeprefix(FOREIGN) for c in foreign}
        ),
    )


def show_picks(layer: Points, picks: Picks, tomogram: Tomogram) -> None:
    """Make a layer hold these picks; its selection stays if their ids do."""
    old = list(layer.features.get("pick_id", []))
    positions_px = picks.positions / tomogram.voxel_size
    if list(picks.pick_id) != old or not np.array_equal(layer.data, positions_px):
        selected = {old[i] for i in layer.selected_data if i < len(old)}
        layer.selected_data = set()
        layer.data = positions_px
        layer.selected_data = {
            i for i, number in enumerate(picks.pick_id) if number in selected
        }
    layer.features = picks_features(picks)


def style_picks(
    layer: Points,
    classes: NDArray[np.object_],
    is_shown: NDArray[np.bool_],
    palette: Palette,
    diameter_px: float,
) -> None:
    """Color points by class, size them by diameter, hide those that are not shown."""
    layer.features["class"] = classes
    colors = np.ones((len(classes), 4))
    for name in set(classes):
        rgb = [int(palette[name][i : i + 2], 16) / 255 for i in (1, 3, 5)]
        colors[classes == name, :3] = rgb
    if len(classes):
        layer.border_color = colors
        colors[:, 3] = _FILL
        layer.face_color = colors
        layer.size = np.full(len(classes), diameter_px)
        layer.shown = is_shown
    if not layer.selected_data:
        layer.current_size = diameter_px


def counted_classes(picks: Picks, threshold: float) -> NDArray[np.object_]:
    """Return what each pick counts as: a label always, a prediction if sure enough."""
    predicted = np.where(picks.confidence < threshold, UNKNOWN, picks.prediction)
    predicted[picks.prediction == UNLABELED] = UNLABELED
    counted: NDArray[np.object_] = np.where(picks.is_labeled, picks.label, predicted)
    return counted


def set_display(layer: Image, settings: DisplaySettings) -> None:
    """Show a tomogram's layer by other settings, its contrast set anew."""
    for volume in display_volumes(layer):
        volume.settings = settings
    layer.colormap = "gray_r" if settings.is_dark else "gray"
    reset_contrast(layer)
    layer.refresh()


def set_tomogram(layer: Image, tomogram: Tomogram) -> None:
    """Make a layer show a tomogram with another sign or voxel size."""
    for volume in display_volumes(layer):
        volume.tomogram = tomogram
    layer.metadata[TOMOGRAM_KEY] = tomogram
    layer.scale = (tomogram.voxel_size,) * 3
    reset_contrast(layer)
    layer.refresh()


def reset_contrast(layer: Image) -> None:
    """Set the contrast by percentiles of what is shown."""
    volumes = display_volumes(layer)
    if volumes:
        low, high = volumes[0].contrast_limits()
        margin = (high - low) / 2
        layer.contrast_limits_range = (low - margin, high + margin)
        layer.contrast_limits = (low, high)


def display_volumes(layer: Image) -> list[DisplayVolume]:
    """Return the levels that a layer shows, the finest first."""
    levels = list(layer.data) if layer.multiscale else [layer.data]
    return [level for level in levels if isinstance(level, DisplayVolume)]


def unique_ids(numbers: NDArray) -> NDArray[np.int64]:
    """Return ids in which what came before or is not positive has a new number."""
    numbers = np.asarray(numbers, dtype=np.int64).copy()
    seen: set[int] = set()
    top = int(numbers.max(initial=0))
    for i, number in enumerate(numbers):
        if number <= 0 or number in seen:
            top += 1
            numbers[i] = top
        seen.add(int(numbers[i]))
    return numbers


def _words(table: pd.DataFrame, name: str) -> NDArray[np.object_]:
    column = table[name] if name in table else pd.Series([UNLABELED] * len(table))
    return column.fillna(UNLABELED).astype(str).to_numpy(dtype=object)
