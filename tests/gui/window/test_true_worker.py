"""The window with the worker that users have: training over several tomograms."""

import json

import numpy as np
import pytest

from napari_ectkd.events import Cancel, EpochEnd
from napari_ectkd.gui.open_jobs import Jobs
from napari_ectkd.gui.session import Session
from napari_ectkd.gui.train_panel import TrainPanel
from napari_ectkd.io.star import read_picks
from napari_ectkd.runs import Run
from napari_ectkd.simulation.config import TomogramSimulation
from napari_ectkd.simulation.tomogram import simulate_tomogram


@pytest.fixture
def panel(make_napari_viewer, tmp_path):
    viewer = make_napari_viewer(show=True)
    session = Session.of(viewer)
    for seed, name in enumerate(["first", "second"]):
        path, truth = tmp_path / f"{name}.mrc", tmp_path / f"{name}.star"
        simulation = TomogramSimulation(
            out=path,
            truth=truth,
            shape=(48, 96, 96),
            per_class=3,
            voxel_size=20,
            box=16,
            snr=1,
            seed=seed,
        )
        list(simulate_tomogram(simulation, cancel=Cancel()))
        session.open_tomogram(path, is_inverted=False)
        session.set_picks(name, read_picks(truth))
    panel = TrainPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Train")
    panel.data.box.setValue(16)
    panel.form.editors["model"].setValue("residual_small")
    yield panel
    Jobs.of(viewer).stop_all()
    session.save()


def test_a_run_over_two_tomograms_is_stopped_and_resumed(panel, qtbot):
    events = []
    panel.job.progressed.connect(events.append)
    panel.form.editors["epochs"].setValue(400)
    assert "labels in 2 tomograms" in panel.data.counts.text()
    panel.start_button.click()
    run = Run(panel.job.folder)
    qtbot.waitUntil(run.resume_path.exists, timeout=60_000)
    with qtbot.waitSignal(panel.job.ended, timeout=20_000):
        panel.status.cancel_button.click()
    assert run.state() == "cancelled"
    stopped = [event.epoch for event in events if isinstance(event, EpochEnd)][-1]

    # A run is resumed by its own settings; these ask for another few epochs only.
    settings = run.config()
    settings["config"]["epochs"] = stopped + 3
    run.config_path.write_text(json.dumps(settings))
    events.clear()
    panel.runs.setValue(run.path)
    with qtbot.waitSignal(panel.job.ended, timeout=60_000):
        panel.resume_button.click()
    # The panel shows the whole run: what came before it was stopped, too.
    texts = [getattr(event, "text", "") for event in events]
    [again] = [n for n, text in enumerate(texts) if text.startswith("going on after")]
    epochs = [event.epoch for event in events[again:] if isinstance(event, EpochEnd)]
    assert 1 < epochs[0] <= stopped + 1
    assert epochs[-1] == stopped + 3
    assert any("by tomogram" in text for text in texts)
    assert "validation accuracy" in panel.summary.text()
    assert np.isfinite(panel.curves.points("val_loss")[1]).all()
