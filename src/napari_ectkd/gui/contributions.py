"""Readers, writers and sample data for napari's menus; each imports what it needs late.

A tomogram that napari opens is taken in by the session of the panels, if one is open or
as soon as one is. A STAR file becomes a plain points layer to look at; `Load STAR…` in
the panel makes its picks the session's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    LayerData = tuple[Any, dict[str, Any], str]
    Reader = Callable[[str | list[str]], list[LayerData]]

_DIAMETER = 200.0
"""Å, of the points of sample data."""


def get_tomogram_reader(path: str | list[str]) -> Reader | None:
    """Return what reads MRC tomograms, or nothing if some path is none."""
    from napari_ectkd.io.formats import MRC_ENDINGS

    endings = (*MRC_ENDINGS, *(f"{ending}.gz" for ending in MRC_ENDINGS))
    paths = [path] if isinstance(path, str) else path
    if all(str(p).lower().endswith(endings) for p in paths):
        return read_tomograms
    return None


def read_tomograms(path: str | list[str]) -> list[LayerData]:
    """Return image layers of tomograms.

    A voxel size that the header lacks cannot be asked for here: the panel does.
    """
    from napari_ectkd.errors import VoxelSizeError
    from napari_ectkd.gui.layers import tomogram_layer_data
    from napari_ectkd.io.tomogram import open_tomogram

    layers: list[LayerData] = []
    for name in [path] if isinstance(path, str) else path:
        try:
            tomogram = open_tomogram(Path(name))
        except VoxelSizeError as error:
            text = str(error).split("; state it")[0]
            raise VoxelSizeError(
                f"{text}; open it in the panel Pick and label, which asks for it"
            ) from error
        volume, options = tomogram_layer_data(tomogram)
        layers.append((volume, options, "image"))
    return layers


def get_picks_reader(path: str | list[str]) -> Reader | None:
    """Return what reads STAR files of particles, or nothing for other STAR files."""
    from napari_ectkd.io.star import is_star_with_coordinates

    paths = [path] if isinstance(path, str) else path
    if all(is_star_with_coordinates(Path(p)) for p in paths):
        return read_picks_layers
    return None


def read_picks_layers(path: str | list[str]) -> list[LayerData]:
    """Return a points layer for the picks of each tomogram in STAR files."""
    import numpy as np

    from napari_ectkd.gui.layers import picks_layer_data
    from napari_ectkd.io.star import read_picks

    layers: list[LayerData] = []
    for name in [path] if isinstance(path, str) else path:
        picks = read_picks(Path(name))
        for tomogram in np.unique(picks.tomogram.astype(str)):
            data, options = picks_layer_data(picks.in_tomogram(tomogram), tomogram)
            layers.append((data, options, "points"))
    return layers


def write_picks_layer(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a points layer as a RELION STAR file."""
    from napari_ectkd.gui.layers import picks_of_layer_data
    from napari_ectkd.io.star import write_picks

    picks, voxel_size = picks_of_layer_data(data, meta)
    write_picks(Path(path), picks, voxel_size)
    return [path]


def write_tomogram_layer(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write an image layer as MRC, with its scale as the voxel size in Å."""
    import numpy as np

    from napari_ectkd.errors import DataError, VoxelSizeError
    from napari_ectkd.io.formats import write_mrc

    volume = np.asarray(data)
    if volume.ndim != 3:
        raise DataError(f"an image of {volume.ndim} axes; a tomogram has three")
    scale = [float(step) for step in meta.get("scale", (1.0,) * 3)]
    if max(scale) > 1.01 * min(scale):
        raise VoxelSizeError(
            f"voxels of {scale} are no cubes; an MRC tomogram has cubes"
        )
    write_mrc(Path(path), volume.astype(np.float32), scale[0])
    return [path]


def make_phantom_tomogram() -> list[LayerData]:
    """Return a small tomogram of phantoms and its truth, made on the first call."""
    return _phantoms("phantom", shape=(80, 160, 160), per_class=4)


def make_crowded_tomogram() -> list[LayerData]:
    """Return a crowded tomogram with membranes and gold, its truth and its labels."""
    return _phantoms(
        "crowded",
        shape=(80, 200, 200),
        thickness=700,
        volume_fraction=0.12,
        membranes=2,
        gold=6,
        snr=0.3,
        has_labels=True,
    )


def _phantoms(name: str, has_labels: bool = False, **settings: Any) -> list[LayerData]:
    """Return a simulated tomogram with its truth, made unless it is in the cache."""
    import numpy as np
    import platformdirs

    from napari_ectkd.events import Cancel
    from napari_ectkd.gui.layers import picks_layer_data, tomogram_layer_data
    from napari_ectkd.io.formats import open_volume
    from napari_ectkd.io.star import read_picks
    from napari_ectkd.io.tomogram import open_tomogram
    from napari_ectkd.simulation.config import TomogramSimulation
    from napari_ectkd.simulation.tomogram import simulate_tomogram

    folder = platformdirs.user_cache_path("napari-ectkd") / "phantom-2"
    config = TomogramSimulation(
        out=folder / f"{name}.mrc",
        truth=folder / f"{name}-truth.star",
        labels=folder / f"{name}-labels.mrc" if has_labels else None,
        **settings,
    )
    files = [config.out, config.truth, *([config.labels] if config.labels else [])]
    if not all(file.exists() for file in files):
        for _ in simulate_tomogram(config, cancel=Cancel()):
            pass
    tomogram = open_tomogram(
        config.out, is_inverted=False, tilt_range=config.tilt_range
    )
    truth = read_picks(config.truth)
    volume, options = tomogram_layer_data(tomogram)
    volume.settings.low_pass = 40.0
    options["contrast_limits"] = volume.contrast_limits()
    layers: list[LayerData] = [(volume, options, "image")]
    if config.labels:
        of_labels = {
            "name": f"{name} labels",
            "visible": False,
            **{key: options[key] for key in ("scale", "units", "axis_labels")},
        }
        labels = np.asarray(open_volume(config.labels).voxels)
        layers.append((labels, of_labels, "labels"))
    data, points = picks_layer_data(truth, f"{name} truth", diameter=_DIAMETER)
    # Beside the user's own picks, not among them.
    points["metadata"] = {}
    _show_points_beside_the_slice()
    return [*layers, (data, points, "points")]


def _show_points_beside_the_slice() -> None:
    """Have the viewer draw points as balls that the slice may cut anywhere.

    Otherwise only those are seen whose center is in the slice. That is a setting of the
    viewer, which has an axis z only once the layers are in it.
    """
    import napari
    from napari.layers import Points

    viewer = napari.current_viewer()
    if viewer is None:
        return

    def widen(event: Any) -> None:
        if isinstance(event.value, Points):
            viewer.layers.events.inserted.disconnect(widen)
            viewer.dims.thickness = (_DIAMETER,) * viewer.dims.ndim

    viewer.layers.events.inserted.connect(widen)
