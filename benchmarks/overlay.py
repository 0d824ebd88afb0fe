"""How soon filters of the overlay act on many picks, beside building the layer anew.

    python benchmarks/overlay.py [N_PICKS]

Without a window: what Python and napari's model do; drawing comes on top, the same for
both. The median of five, in milliseconds and as a share of `viewer.add_points`.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import mrcfile
import numpy as np
from napari.components import ViewerModel
from qtpy.QtWidgets import QApplication

from napari_ectkd.gui.classes_table import ClassesTable
from napari_ectkd.gui.session import Session
from napari_ectkd.io.picks import Picks

SHAPE = (64, 256, 256)
REPEATS = 5


def median_ms(change, values) -> float:
    """Return the median time of a change to each of several values."""
    times = []
    for value in values:
        start = time.perf_counter()
        change(value)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def main(n: int) -> None:
    """Print a line a filter."""
    app = QApplication([])
    rng = np.random.default_rng(0)
    viewer = ViewerModel()
    session = Session.of(viewer)
    table = ClassesTable(session)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tomo.mrc"
        with mrcfile.new(path) as mrc:
            mrc.set_data(rng.normal(size=SHAPE).astype(np.float32))
            mrc.voxel_size = 10
        session.open_tomogram(path, is_inverted=False)
        classes = np.array([f"class {i}" for i in range(8)], dtype=object)
        picks = Picks.create(
            rng.uniform(0, 10 * (np.array(SHAPE) - 1), (n, 3)),
            "tomo",
            prediction=rng.choice(classes, n),
            confidence=rng.uniform(0.2, 1, n),
        )
        session.set_picks("tomo", picks)
        layer = session.points_layer("tomo")
        options = {
            name: getattr(layer, name)
            for name in ("features", "border_color", "face_color", "size", "shown")
        }

        def rebuild(_) -> None:
            viewer.layers.remove(
                viewer.add_points(layer.data, scale=layer.scale, **options)
            )

        whole = median_ms(rebuild, range(3))
        print(f"{n:,} picks; building their layer anew: {whole:.0f} ms")
        steps = range(REPEATS)
        low, high = np.zeros(3), 10.0 * np.array(SHAPE)
        mask = rng.random(SHAPE) > 0.5
        rows = {
            "class": (session.set_hidden, [{f"class {i}"} for i in steps]),
            "confidence": (
                lambda v: session.set_overlay(min_confidence=v),
                [0.3 + 0.1 * i for i in steps],
            ),
            "cut of a class": (
                lambda v: session.set_overlay(cuts={"class 1": v}),
                [float(i) for i in steps],
            ),
            "box": (
                lambda v: session.set_overlay(region=v),
                [np.array([low + 50 * i, high]) for i in steps],
            ),
        }
        from napari_ectkd.prediction.mask import Mask

        rows["mask"] = (
            lambda v: session.set_overlay(masks={"tomo": Mask(path, v)}),
            [mask if i % 2 else ~mask for i in steps],
        )
        for title, (change, values) in rows.items():
            found = median_ms(change, values)
            print(f"{title:>15}: {found:5.0f} ms, {found / whole:.2f} of building")
        session.save()
    del table, app


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
