"""The scores of a sweep as image layers: the probability of a class, where it is asked.

Tomogram, picks and scores lie in one world, in ångström: a layer of scores has the step
of the grid as its scale and the grid's first position as its shift.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ectkd.gui.layers import AXES, KEY
from napari_ectkd.gui.lazy_volume import LazyVolume
from napari_ectkd.gui.palette import rgb
from napari_ectkd.io.scores import open_scores

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari.layers import Image
    from napari.utils.colormaps import Colormap
    from numpy.typing import NDArray

    from napari_ectkd.io.scores import Scores


class ClassProbability(LazyVolume):
    """Probabilities of a class as an array for napari, `(z, y, x)` float32.

    They are computed in the slab looked at; where nothing was searched they are 0.

    Parameters
    ----------
    scores
        What a model says everywhere.
    index
        Of which class.
    """

    def __init__(self, scores: Scores, index: int) -> None:
        super().__init__(scores.logits.shape[1:])
        self._scores, self._index = scores, index
        self._slab: tuple[int, NDArray[np.float32]] | None = None

    def part(self, region: list[int | slice]) -> NDArray[np.float32]:
        """Return the probabilities at integers and slices."""
        depth, *sides = region
        if not isinstance(depth, slice):
            return self._plane(int(depth) % self.shape[0], sides)
        planes = range(*depth.indices(self.shape[0]))
        form = np.broadcast_to(np.float32(0), self.shape)[tuple(region)]
        found = np.empty(form.shape, np.float32)
        for number, z in enumerate(planes):
            found[number] = self._plane(z, sides)
        return found

    def _plane(self, z: int, sides: list[int | slice]) -> NDArray[np.float32]:
        """Return (a part of) a plane, from the slab in which it is stored."""
        depth = int(self._scores.logits.chunks[1])
        first = z - z % depth
        if self._slab is None or self._slab[0] != first:
            region = (slice(first, first + depth), slice(None), slice(None))
            found = np.nan_to_num(self._scores.probability(self._index, region))
            self._slab = first, found
        plane: NDArray[np.float32] = self._slab[1][z - first][tuple(sides)]
        return plane


def score_layer(path: Path, name: str, color: str) -> Image:
    """Return a layer with the probability of a class, not yet in a viewer.

    Parameters
    ----------
    path
        A sweep's folder of scores.
    name
        The class.
    color
        `#rrggbb`, of certainty; 0 is transparent.

    Raises
    ------
    EctkdError
        If the scores cannot be read.
    """
    from napari.layers import Image

    scores = open_scores(path)
    return Image(
        ClassProbability(scores, scores.classes.index(name)),
        name=f"{scores.tomogram} {name}: probability",
        scale=(scores.step,) * 3,
        translate=scores.origin,
        units="angstrom",
        axis_labels=AXES,
        colormap=_fading(name, color),
        contrast_limits=(0.0, 1.0),
        blending="additive",
        projection_mode="none",
        multiscale=False,
        rgb=False,
        metadata={
            KEY: {
                "scores_of": scores.tomogram,
                "class": name,
                "path": path,
                "written": _written(path),
            }
        },
    )


def renew_score_layer(layer: Image) -> None:
    """Let a layer show the scores that are there now, if another sweep wrote them.

    Raises
    ------
    EctkdError
        If they cannot be read.
    """
    facts = layer.metadata[KEY]
    written = _written(facts["path"])
    if written == facts["written"]:
        return
    scores = open_scores(facts["path"])
    layer.data = ClassProbability(scores, scores.classes.index(facts["class"]))
    layer.scale, layer.translate = (scores.step,) * 3, scores.origin
    layer.metadata = {KEY: {**facts, "written": written}}


def score_layer_facts(layer: Any) -> tuple[Path, str] | None:
    """Return whose scores a layer shows (folder and class), if it is one of ours."""
    facts = layer.metadata.get(KEY, {})
    if not isinstance(facts, dict) or "scores_of" not in facts:
        return None
    return facts["path"], facts["class"]


def paint_scores(layer: Image, color: str) -> None:
    """Give a layer of scores another color."""
    _, name = score_layer_facts(layer)
    wanted = _fading(name, color)
    if not np.array_equal(layer.colormap.colors, wanted.colors):
        layer.colormap = wanted


def size_on_disk(folders: Sequence[Path]) -> int:
    """Return the bytes of all files in some folders."""
    files = (path for folder in folders for path in folder.rglob("*"))
    return sum(path.stat().st_size for path in files if path.is_file())


def _written(path: Path) -> int:
    """Return what tells the scores of one sweep from those of the next; 0 if gone."""
    try:
        return (path / "zarr.json").stat().st_mtime_ns
    except OSError:
        return 0


def _fading(name: str, color: str) -> Colormap:
    """Return a colormap from transparent to a class's color.

    The color itself does not change: what is added to the picture is color times
    opacity, which so grows as the probability, and not as its square.
    """
    from napari.utils.colormaps import Colormap

    mixed = rgb(color)
    return Colormap([[*mixed, 0], [*mixed, 1]], name=f"probability of {name}")
