"""How soon filters and labels act on many picks, and what saving them costs the window.

napari's model of a viewer with the whole studio, *Classify* in front, and no canvas:
what a change costs the window's thread, drawing apart. Each change is made by what its
widget calls, and timed until it returns. "napari alone" is how long a plain points
layer of as many points takes to be given such values. Saving is watched by a timer of
1 ms: its longest gap is how long the window answered nobody.

    python benchmarks/overlay.py --out benchmarks/results/overlay.json --as now

The file keeps what was measured under other names, so that two states of the source can
be compared (PYTHONPATH says which is measured).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import mrcfile
import napari
import numpy as np
from napari.components import ViewerModel
from qtpy.QtCore import QEventLoop, QTimer
from qtpy.QtWidgets import QApplication

import napari_ectkd
from machine import commit, processor
from napari_ectkd.gui.labeling import LabelingMode
from napari_ectkd.gui.session import Session
from napari_ectkd.gui.studio import StudioPanel
from napari_ectkd.io.picks import Picks
from napari_ectkd.prediction.mask import Mask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SHAPE = (64, 256, 256)
VOXEL_SIZE = 10.0
REPEATS = 7


def main() -> None:
    """Measure, print a table in Markdown, and write the figures as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picks", type=int, default=100_000)
    parser.add_argument("--as", dest="name", default="now", help="name of the figures")
    parser.add_argument("--out", type=Path, help="JSON file to write or add to")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {arguments.name: measure(Path(folder), arguments.picks)}
    if arguments.out:
        if arguments.out.exists():
            found = json.loads(arguments.out.read_text()) | found
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    show(found)


def measure(folder: Path, n: int) -> dict[str, Any]:
    """Return the figures of n picks, in milliseconds."""
    rng = np.random.default_rng(0)
    path = folder / "tomo.mrc"
    with mrcfile.new(path) as mrc:
        mrc.set_data(rng.normal(size=SHAPE).astype(np.float32))
        mrc.voxel_size = VOXEL_SIZE
    app = QApplication([])
    viewer = ViewerModel()
    session = Session.of(viewer)
    studio = StudioPanel(viewer)
    studio.show()
    studio.tabs.setCurrentWidget(studio.classify)
    session.open_tomogram(path, is_inverted=False)
    classes = np.array([f"class {i}" for i in range(8)], dtype=object)
    session.set_picks(
        "tomo",
        Picks.create(
            rng.uniform(0, VOXEL_SIZE * (np.array(SHAPE) - 1), (n, 3)),
            "tomo",
            prediction=rng.choice(classes, n),
            confidence=rng.uniform(0.2, 1, n),
        ),
    )
    settle()
    session.save()
    rows = changes(session, path, rng)
    found = {title: median_ms(change, values) for title, (change, values) in rows}
    settle()
    result = {
        "picks": n,
        "ms": found,
        "napari_ms": plain_layer(viewer, session),
        "saving": saving(session),
        "machine": {
            "processor": processor(),
            "load_average": os.getloadavg()[0],
            "napari": napari.__version__,
        },
        "commit": commit(Path(napari_ectkd.__file__).parent),
    }
    session.save()
    studio.close()
    del app
    return result


def changes(
    session: Session, path: Path, rng: np.random.Generator
) -> list[tuple[str, tuple[Callable[[Any], object], Iterable[Any]]]]:
    """Return what is timed: a title, a change, and the values that it is given."""
    steps = range(REPEATS)
    high = VOXEL_SIZE * np.array(SHAPE)
    inside = rng.random(SHAPE) > 0.5
    layer = session.layers.points("tomo")
    keys = LabelingMode(session)
    keys.set_on(True)

    def press(_: int) -> None:
        keys.assign_key("1")

    def move(step: int) -> None:
        """Move one point as a drag of napari ends."""
        data = layer.data.copy()
        data[step] += 1
        layer._data = data
        layer.events.data(
            value=data, action="changed", data_indices=(step,), vertex_indices=((),)
        )

    def add(step: int) -> None:
        layer.add([[1.0 + step, 2, 3]])

    def overlay(name: str) -> Callable[[Any], object]:
        return lambda value: session.set_overlay(**{name: value})

    return [
        ("a class hidden", (session.set_hidden, [{f"class {i}"} for i in steps])),
        ("confidence from", (overlay("min_confidence"), [0.3 + i / 20 for i in steps])),
        ("cut of a class", (overlay("cuts"), [{"class 1": i / 2} for i in steps])),
        (
            "box",
            (overlay("region"), [np.array([np.full(3, 9.0 * i), high]) for i in steps]),
        ),
        (
            "mask",
            (
                overlay("masks"),
                [{"tomo": Mask(path, inside if i % 2 else ~inside)} for i in steps],
            ),
        ),
        ("a label by a key", (press, steps)),
        ("undo of a label", (lambda _: session.undo_stack.undo(), steps)),
        ("a pick moved", (move, steps)),
        ("a pick added", (add, steps)),
    ]


def plain_layer(viewer: ViewerModel, session: Session) -> dict[str, float]:
    """Return how long napari's own layer takes to be given each kind of value."""
    ours = session.layers.points("tomo")
    layer = viewer.add_points(ours.data, features=ours.features, units=ours.units)
    n = len(ours.data)
    shown = [np.arange(n) % 8 != i for i in range(REPEATS)]
    colors = [np.full((n, 4), 0.1 * i) for i in range(REPEATS)]
    found = {
        name: median_ms(lambda value, name=name: setattr(layer, name, value), values)
        for name, values in {
            "shown": shown,
            "border_color": colors,
            "face_color": colors,
            "features": [ours.features] * REPEATS,
            "data": [ours.data + i for i in range(REPEATS)],
        }.items()
    }
    viewer.layers.remove(layer)
    return found


def saving(session: Session) -> dict[str, float]:
    """Return how long after a label it is on the disk, and the window's longest gap."""
    gaps: list[float] = []
    last = time.perf_counter()

    def tick() -> None:
        nonlocal last
        now = time.perf_counter()
        gaps.append(now - last)
        last = now

    session.save()
    settle()
    loop = QEventLoop()
    session.saved.connect(lambda *_: QTimer.singleShot(0, loop.quit))
    # It asks for the picks to be saved as a label does, and leaves nothing to draw.
    session.state(session.current.with_tilt_range((-60, 60)))
    timer = QTimer(interval=1)
    timer.timeout.connect(tick)
    start = last = time.perf_counter()
    timer.start()
    loop.exec()
    tick()
    return {
        "saved_after_ms": 1e3 * (time.perf_counter() - start),
        "longest_gap_ms": 1e3 * max(gaps),
    }


def median_ms(change: Callable[[Any], object], values: Iterable[Any]) -> float:
    """Return the median time of a change to each of several values."""
    times = []
    for value in values:
        settle()
        start = time.perf_counter()
        change(value)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def settle() -> None:
    """Let the window draw what is waiting to be drawn."""
    for _ in range(3):
        QApplication.processEvents()


def show(found: dict[str, Any]) -> None:
    """Print the figures as Markdown, those of each name in a column."""
    print("| | " + " | ".join(found) + " |")
    print("|---|" + "---|" * len(found))
    first = next(iter(found.values()))
    for title in first["ms"]:
        cells = [f"{result['ms'][title]:.0f} ms" for result in found.values()]
        print(f"| {title} | " + " | ".join(cells) + " |")
    for key, title in (
        ("longest_gap_ms", "saving: longest time without an answer"),
        ("saved_after_ms", "saved after"),
    ):
        cells = [f"{result['saving'][key]:.0f} ms" for result in found.values()]
        print(f"| {title} | " + " | ".join(cells) + " |")
    print()
    for name, result in found.items():
        parts = (f"{key} {ms:.0f} ms" for key, ms in result["napari_ms"].items())
        print(f"{name}, napari alone: " + ", ".join(parts))


if __name__ == "__main__":
    main()
