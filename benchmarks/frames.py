"""How soon the window draws while a sweep is at work beside it.

The real napari window with the studio and a tomogram on the disk. A user who never
rests scrolls through slices and pans, in turns: the next change comes 30 ms after the
last was drawn. A frame's time is that from the change to the end of the draw, all of it
computed by OpenGL. Beside it a timer of 10 ms: the gaps between its ticks say for how
long the window answered nobody, whatever it did. First with nothing else at work, then
while `ectkd sweep`, started by a click in *Classify*, works on the same cores, from the
click until its hits are drawn (later sweeps replace those of the first), then with the
hits and nothing at work. The weights are random and leave some thousand hits.

    python benchmarks/frames.py --out benchmarks/results/frames.json
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari
import numpy as np
import torch
from OpenGL import GL
from qtpy.QtCore import QEventLoop, Qt, QTimer
from qtpy.QtTest import QTest

from machine import commit, processor
from napari_ectkd.gui.session import Session
from napari_ectkd.gui.studio import StudioPanel
from napari_ectkd.gui.tomogram_batch import RESULTS
from napari_ectkd.models.checkpoint import (
    CheckpointInfo,
    Normalization,
    save_checkpoint,
)
from napari_ectkd.models.registry import build_model
from sweep import write_tomogram

if TYPE_CHECKING:
    from collections.abc import Callable

BOX = 40
PAUSE_MS = 30
"""From the end of a frame to the next change."""
TICK_MS = 10


class Watch:
    """Changes what the window shows, again and again, and keeps the times.

    Parameters
    ----------
    viewer
        Its window is shown and has a tomogram.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        self._viewer = viewer
        self._changes = cycle([self._scroll, self._pan])
        self._change: Callable[[], None] = self._scroll
        self._started: float | None = None
        self._ticked = 0.0
        self._next = QTimer(singleShot=True, interval=PAUSE_MS)
        self._next.timeout.connect(self._go)
        self._ticks = QTimer(interval=TICK_MS, timerType=Qt.TimerType.PreciseTimer)
        self._ticks.timeout.connect(self._tick)
        canvas = viewer.window._qt_viewer.canvas._scene_canvas
        canvas.events.draw.connect(self._drawn, position="last")
        self.clear()

    def clear(self) -> None:
        """Forget all times."""
        self.frames: dict[str, list[float]] = {"scroll": [], "pan": []}
        self.gaps: list[float] = []

    def run(self, start: Callable[[QEventLoop], None]) -> None:
        """Watch until the event loop that `start` is given has been left."""
        loop = QEventLoop()
        self._ticked = time.perf_counter()
        self._ticks.start()
        self._next.start()
        start(loop)
        loop.exec()
        self._next.stop()
        self._ticks.stop()
        self._started = None

    def _go(self) -> None:
        self._change = next(self._changes)
        self._started = time.perf_counter()
        self._change()

    def _drawn(self, _event: Any) -> None:
        if self._started is None:
            return
        GL.glFinish()
        kind = "scroll" if self._change == self._scroll else "pan"
        self.frames[kind].append(time.perf_counter() - self._started)
        self._started = None
        self._next.start()

    def _tick(self) -> None:
        now = time.perf_counter()
        self.gaps.append(now - self._ticked)
        self._ticked = now

    def _scroll(self) -> None:
        dims = self._viewer.dims
        step = dims.current_step[0] + 1
        dims.set_current_step(0, step if step < dims.nsteps[0] else 0)

    def _pan(self) -> None:
        camera = self._viewer.scene.camera
        angle = time.perf_counter()
        offset = 200 * np.array([0.0, np.sin(angle), np.cos(angle)])
        camera.center = tuple(self._middle + offset)

    @property
    def _middle(self) -> np.ndarray:
        return np.array([r.start + r.stop for r in self._viewer.dims.range]) / 2


def main() -> None:
    """Measure, print a table in Markdown, and write the figures as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(128, 512, 512))
    parser.add_argument("--seconds", type=float, default=15, help="without a sweep")
    parser.add_argument("--sweeps", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), arguments)
    show(result)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return all figures."""
    path = write_tomogram(folder, tuple(arguments.shape), np.float32)
    model = write_model(folder / "model.safetensors")
    viewer = napari.Viewer()
    session = Session.of(viewer)
    session.open_tomogram(path, is_inverted=False)
    studio = StudioPanel(viewer)
    viewer.window.add_dock_widget(studio, name="Studio")
    viewer.window.resize(1500, 900)
    panel = studio.classify
    studio.tabs.setCurrentWidget(panel)
    panel.model.setValue(model)
    panel.what.setValue("sweep")
    watch = Watch(viewer)

    def idle(loop: QEventLoop) -> None:
        QTimer.singleShot(int(1e3 * arguments.seconds), loop.quit)

    def sweeping(loop: QEventLoop) -> None:
        # The hits are drawn with the next frames, which count too.
        panel.job.ended.connect(lambda: QTimer.singleShot(500, loop.quit))
        QTest.mouseClick(panel.start_button, Qt.MouseButton.LeftButton)

    watch.run(lambda loop: QTimer.singleShot(3000, loop.quit))  # shaders, first slices
    watch.clear()
    watch.run(idle)
    rows = {"idle": figures(watch)}
    watch.clear()
    n_hits, started = [], time.perf_counter()
    for _ in range(arguments.sweeps):
        # Else the second would find all done, and keep it.
        shutil.rmtree(session.folder / RESULTS, ignore_errors=True)
        watch.run(sweeping)
        if panel.status.is_error:
            raise SystemExit(panel.status.message.text())
        n_hits.append(len(session.picks(path.stem)))
    rows["while a sweep is at work"] = figures(watch)
    seconds = time.perf_counter() - started
    watch.clear()
    watch.run(idle)
    rows["idle, with the hits"] = figures(watch)
    canvas = viewer.window._qt_viewer.canvas._scene_canvas
    result = {
        "shape": list(arguments.shape),
        "canvas": [int(n) for n in canvas.size],
        "sweeps": arguments.sweeps,
        "seconds_of_sweeps": seconds,
        "hits": n_hits,
        "rows": rows,
        "machine": {
            "processor": processor(),
            "load_average": os.getloadavg()[0],
            "opengl": GL.glGetString(GL.GL_RENDERER).decode(),
            "napari": napari.__version__,
        },
        "commit": commit(),
    }
    session.save()
    viewer.close()
    return result


def write_model(path: Path) -> Path:
    """Write a checkpoint of random weights, which sees particles in noise."""
    torch.manual_seed(0)
    model = build_model("compact", 3, BOX)
    with torch.no_grad():
        model.head.weight *= 20
        model.head.bias.copy_(torch.tensor([0.5, 0.5, 0.0]))
    info = CheckpointInfo(
        model="compact",
        classes=["ring", "shell", "none"],
        diameters={"ring": 200.0, "shell": 200.0},
        box=BOX,
        voxel_size=10.0,
        normalization=Normalization(mode="data"),
        trained_by="distill",
    )
    save_checkpoint(path, model, info)
    return path


def figures(watch: Watch) -> dict[str, Any]:
    """Return median, 95 % and slowest in ms of each kind of time."""
    times = {**watch.frames, "gap": watch.gaps}
    return {
        kind: {
            "n": len(found),
            "median_ms": 1e3 * float(np.median(found)),
            "p95_ms": 1e3 * float(np.quantile(found, 0.95)),
            "slowest_ms": 1e3 * max(found),
        }
        for kind, found in times.items()
    }


def show(result: dict[str, Any]) -> None:
    """Print the figures as Markdown."""
    print(", ".join(f"{key} {value}" for key, value in result["machine"].items()))
    print(f"hits of each sweep: {result['hits']}\n")
    print("| | what | n | median | 95 % | slowest |")
    print("|---|---|---|---|---|---|")
    for title, kinds in result["rows"].items():
        for kind, row in kinds.items():
            print(
                f"| {title} | {kind} | {row['n']} | {row['median_ms']:.0f} ms "
                f"| {row['p95_ms']:.0f} ms | {row['slowest_ms']:.0f} ms |"
            )


if __name__ == "__main__":
    main()
