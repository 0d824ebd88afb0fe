"""Runs listed, followed, compared, duplicated, deleted; labels looked through."""

import json
import os
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QPointF, Qt, QTimer
from qtpy.QtWidgets import QApplication, QMessageBox

from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.devices.choice import Device
from napari_ectkd.distillation.config import DistillConfig
from napari_ectkd.errors import ConfigError
from napari_ectkd.events import EpochEnd, Finished
from napari_ectkd.gui.curves import Curves, apart
from napari_ectkd.gui.detail_curves import DetailCurves
from napari_ectkd.gui.duplicate_dialog import DuplicateDialog
from napari_ectkd.gui.example_view import ExampleView
from napari_ectkd.gui.jobs import Job
from napari_ectkd.gui.palette import Palette
from napari_ectkd.gui.runs_panel import RunsPanel
from napari_ectkd.gui.session import Session
from napari_ectkd.gui.setup_check import SetupCheck
from napari_ectkd.gui.status import JobStatus
from napari_ectkd.gui.train_panel import TrainPanel
from napari_ectkd.io.atomic import make_folder
from napari_ectkd.io.picks import Picks
from napari_ectkd.io.stacks import StackInfo
from napari_ectkd.refinement.config import RefineConfig
from napari_ectkd.runs import Run
from napari_ectkd.simulation.config import SubtomogramSettings
from napari_ectkd.training.config import EnsembleConfig
from napari_ectkd.training.run_list import delete_run

WORKER = Path(__file__).parents[1] / "fake_worker.py"


@pytest.fixture
def viewer(qtbot, monkeypatch, make_mrc):
    monkeypatch.setattr(Job, "program", [sys.executable, str(WORKER)])
    viewer = ViewerModel()
    noise = np.random.default_rng(0).normal(size=(20, 24, 24)).astype(np.float32)
    Session.of(viewer).open_tomogram(make_mrc(noise))
    yield viewer
    Session.of(viewer).save()


def epoch(number, **metrics):
    base = {"loss": 1 / number, "accuracy": 0.5, "val_accuracy": 0.1 * number}
    return EpochEnd(epoch=number, epochs=3, metrics=base | metrics)


def make_run(folder, name, n_epochs, last=None, **config):
    run = Run(folder / name)
    data = DataConfig(data=[folder / "data"])
    run.create(
        {
            "kind": "train",
            "data": data.model_dump(mode="json"),
            "config": EnsembleConfig(**config).model_dump(mode="json"),
        }
    )
    for number in range(1, n_epochs + 1):
        run.log(epoch(number))
    if last is not None:
        run.log(last)
    return run


@pytest.fixture
def runs(viewer):
    folder = Session.of(viewer).runs_folder()
    one = make_run(folder, "one", 3, Finished(), seed=5)
    two = make_run(folder, "two", 2)
    two.resume_path.touch()
    return one, two


@pytest.fixture
def panel(viewer, runs, qtbot):
    panel = RunsPanel(viewer)
    qtbot.addWidget(panel)
    yield panel
    panel.jobs.stop_all()
    panel.watched.detach()


def click(qtbot, button):
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def test_runs_are_listed_and_what_cannot_be_done_says_why(panel, runs):
    shown = {row[0]: row[1:3] for row in panel.table.rows}
    assert shown == {
        "one": ("finished", "3/3"),
        "two": ("interrupted, can resume", "2/3"),
    }
    assert not panel.resume_button.isEnabled()
    assert "Choose one run" in panel.resume_button.toolTip()
    panel.choose([runs[0].path])
    assert "has finished" in panel.resume_button.toolTip()
    assert "one has no model" in panel.export_button.toolTip()
    panel.choose([runs[1].path])
    assert panel.resume_button.isEnabled()


def test_the_list_is_live(panel, runs):
    panel.choose([runs[1].path])
    runs[1].log(epoch(3))
    runs[1].log(Finished())
    runs[1].resume_path.unlink()
    panel.refresh()
    assert {row[0]: row[1:3] for row in panel.table.rows}["two"] == ("finished", "3/3")
    assert [run.path for run in panel.chosen()] == [runs[1].path]  # still chosen


def test_curves_of_several_runs_are_compared(panel, runs):
    panel.choose([run.path for run in runs])
    assert panel.curves.points(runs[0].path) == {
        0: ([1, 2, 3], pytest.approx([0.1, 0.2, 0.3]))
    }
    drawn = {item.name(): item.getData()[1] for item in items_of(panel.curves.plot)}
    assert drawn.keys() == {"one", "two"}
    assert drawn["two"] == pytest.approx([0.1, 0.2])
    runs[1].log(epoch(2, val_accuracy=0.9))  # resumed after the first
    panel.curves.draw()
    drawn = {item.name(): item.getData()[1] for item in items_of(panel.curves.plot)}
    assert drawn["two"] == pytest.approx([0.1, 0.9])


def test_the_log_of_a_long_run_is_read_without_drawing_each_epoch(
    panel, viewer, runs, qtbot, monkeypatch
):
    n = 300
    long = make_run(runs[0].path.parent, "long", n, Finished())
    drawn = []
    draw = panel.curves.plot.plot
    monkeypatch.setattr(
        panel.curves.plot, "plot", lambda *a, **k: drawn.append(0) or draw(*a, **k)
    )
    panel.refresh()
    panel.choose([long.path])
    with qtbot.waitSignal(panel.watched.ended):
        panel.attach()
    qtbot.wait(20)
    assert 1 <= len(drawn) < 10
    assert panel.curves.points(long.path)[0][0] == list(range(1, n + 1))
    long.log(epoch(n + 1))
    long.log(epoch(n - 1, val_accuracy=0.5))  # a resumed run says epochs twice
    epochs, values = panel.curves.points(long.path)[0]
    assert epochs == list(range(1, n))
    assert values[-1] == 0.5

    curves = Curves()
    qtbot.addWidget(curves)
    loss = curves._curves["loss"]
    set_data = loss.setData
    loss.setData = lambda *a, **k: drawn.append(1) or set_data(*a, **k)
    for event in long.events():
        if isinstance(event, EpochEnd):
            curves.add(event)
    assert curves.points("loss")[0] == list(range(1, n))
    qtbot.waitUntil(lambda: 1 in drawn)
    assert drawn.count(1) == 1
    assert list(loss.getData()[0]) == list(range(1, n))


def test_a_search_is_shown_by_the_curves_of_its_trials(panel, runs):
    folder = runs[0].path.parent
    search = make_run(folder, "search", 0, Finished())
    for number in (1, 2):
        make_run(search.path, f"trial-{number:02d}", number + 1, Finished())
    panel.refresh()
    panel.choose([search.path])
    curves = panel.curves.plot.plotItem.listDataItems()
    assert [curve.name() for curve in curves] == ["trial-01", "trial-02"]
    assert [len(curve.getData()[0]) for curve in curves] == [2, 3]


def of_members():
    """Two members of two epochs, the second one resumed after its first."""
    for number, member in ((1, 1), (2, 1), (3, 2), (4, 2), (4, 2)):
        yield epoch(number).model_copy(update={"member": member, "epochs": 4})


def test_each_member_of_an_ensemble_has_a_curve(panel, runs):
    three = make_run(runs[0].path.parent, "three", 0, members=2)
    for event in of_members():
        three.log(event)
    panel.refresh()
    panel.choose([three.path])
    assert panel.curves.points(three.path) == {
        1: ([1, 2], pytest.approx([0.1, 0.2])),
        2: ([1, 2], pytest.approx([0.3, 0.4])),
    }
    names = [item.name() for item in items_of(panel.curves.plot)]
    assert names == [None, "three, 2 networks"]


def test_where_a_member_begins_is_marked(qtbot):
    curves = Curves()
    qtbot.addWidget(curves)
    for event in of_members():
        curves.add(event)
    assert curves.starts() == {1: 1, 2: 3}
    assert curves.points("accuracy")[0] == [1, 2, 3, 4]
    lines = [
        item
        for item in curves.plots["Loss"].plotItem.items
        if getattr(item, "label", None) is not None
    ]
    assert [(line.value(), line.label.format) for line in lines] == [
        (0.5, "network 1"),
        (2.5, "2"),
    ]
    # The last of the first member is not joined to the first of the second.
    assert apart([1, 2, 3, 4], curves.starts().values()).tolist() == [1, 0, 1, 1]
    curves.clear()
    assert curves.starts() == {}
    assert len(curves.plots["Loss"].plotItem.items) == 2  # training, validation


@pytest.mark.parametrize("accuracy", [0.1, 0.9])
def test_the_legend_leaves_the_ends_of_the_curves_free(qtbot, accuracy):
    curves = Curves()
    qtbot.addWidget(curves)
    curves.resize(340, 320)
    with qtbot.waitExposed(curves):
        curves.show()
    for number in range(1, 41):
        metrics = {"accuracy": accuracy, "val_accuracy": accuracy}
        curves.add(EpochEnd(epoch=number, epochs=40, metrics=metrics))
    plot = curves.plots["Accuracy"].plotItem

    def is_free():
        late = plot.vb.mapViewToScene(QPointF(36, accuracy))
        hidden = plot.legend.sceneBoundingRect()
        return hidden.left() < late.x() < hidden.right() and not hidden.contains(late)

    qtbot.waitUntil(is_free)


def items_of(plot):
    return plot.plotItem.listDataItems()


def test_a_run_is_resumed_and_followed(panel, runs, qtbot, monkeypatch):
    monkeypatch.setenv("FAKE_WORKER", "finish")
    panel.choose([runs[1].path])
    job = panel.jobs.job("Training", can_go_on=True)
    with qtbot.waitSignal(job.ended):
        click(qtbot, panel.resume_button)
    qtbot.waitUntil(lambda: not panel.watched.is_active)
    panel.refresh()
    assert {row[0]: row[1] for row in panel.table.rows}["two"].startswith("finished")
    assert job.folder == runs[1].path.absolute()


def test_a_run_that_another_window_started_is_followed(panel, runs, qtbot, monkeypatch):
    monkeypatch.setenv("FAKE_WORKER", "wait")
    other = panel.jobs.job("Training", can_go_on=True)  # stopped whatever happens
    other.start(["train", "--out", str(runs[1].path)], runs[1].path)
    qtbot.waitUntil(runs[1].is_running)
    panel.refresh()
    assert {row[0]: row[1] for row in panel.table.rows}["two"] == "running"
    panel.choose([runs[1].path])
    assert "Cancel a run" in panel.delete_button.toolTip()
    with qtbot.waitSignal(panel.watched.progressed):
        click(qtbot, panel.attach_button)
    assert "subtomograms/s" in panel.status.figures.text()
    with qtbot.waitSignals([panel.watched.ended, other.ended]):
        click(qtbot, panel.status.cancel_button)
    assert runs[1].state() == "cancelled"


def test_a_run_in_a_queue_is_cancelled_and_only_then_deleted(panel, runs, qtbot):
    waiting = make_run(runs[0].path.parent, "waiting", 0)
    waiting.queue_path.write_text("{}")
    panel.refresh()
    panel.choose([waiting.path])
    assert waiting.state() == "queued"
    assert "Cancel a run" in panel.delete_button.toolTip()
    with pytest.raises(ConfigError, match="waits for a scheduler"):
        delete_run(waiting.path)
    click(qtbot, panel.attach_button)
    assert "Waiting for waiting to start" in panel.status.message.text()
    click(qtbot, panel.cancel_button)
    assert waiting.state() == "cancelled"
    assert "before it began" in panel.status.message.text()
    assert "waiting is not at work" in panel.cancel_button.toolTip()
    assert panel.delete_button.isEnabled()


def test_a_running_run_is_cancelled_from_the_list(panel, runs, qtbot, monkeypatch):
    monkeypatch.setenv("FAKE_WORKER", "wait")
    other = panel.jobs.job("Training", can_go_on=True)
    other.start(["train", "--out", str(runs[1].path)], runs[1].path)
    qtbot.waitUntil(runs[1].is_running)
    panel.refresh()
    panel.choose([runs[1].path])
    with qtbot.waitSignal(other.ended):
        click(qtbot, panel.cancel_button)
    assert runs[1].state() == "cancelled"


def test_a_run_cancelled_by_another_while_it_waits_was_not_killed(runs, qtbot):
    waiting = make_run(runs[0].path.parent, "waiting", 0)
    waiting.queue_path.write_text("{}")
    job = Job()
    said = []
    job.failed.connect(said.append)
    job.attach(waiting.path)
    qtbot.wait(300)
    assert job.is_active  # it may begin at any time
    status = JobStatus(job)
    qtbot.addWidget(status)
    assert "queue" in status.message.text()
    with qtbot.waitSignal(job.cancelled):
        waiting.request_cancel()
    assert not said


def test_a_run_of_another_machine_is_followed_and_none_of_ours_killed(runs, qtbot):
    run = runs[1]
    with_pid = {"pid": os.getpid(), "created": 0.0, "host": "node-17"}
    (run.path / "process.json").write_text(json.dumps(with_pid))
    job = Job()
    job.attach(run.path)
    qtbot.wait(300)
    assert job.is_active
    job.kill()
    with qtbot.waitSignal(job.done):
        run.log(Finished(result={}))


def test_a_run_of_a_cluster_goes_on_there(panel, runs, viewer, qtbot):
    kept = runs[1].config() | {"where": {"submit": "slurm", "processes": 4}}
    runs[1].config_path.write_text(json.dumps(kept))
    panel.refresh()
    panel.choose([runs[1].path])
    assert not panel.resume_button.isEnabled()
    assert "handed to slurm" in panel.resume_button.toolTip()
    train = TrainPanel(viewer)
    qtbot.addWidget(train)
    train.runs.setValue(runs[1].path)
    assert not train.resume_button.isEnabled()
    assert "handed to slurm" in train.resume_button.toolTip()
    dialog = DuplicateDialog(runs[1].path, [], None)
    qtbot.addWidget(dialog)
    assert "--processes" not in dialog.arguments(runs[1].path.parent / "new")


def test_a_duplicate_may_have_another_box(runs, qtbot, tmp_path):
    kept = runs[0].config()
    kept["data"]["box"] = 24
    runs[0].config_path.write_text(json.dumps(kept))
    dialog = DuplicateDialog(runs[0].path, [], None)
    qtbot.addWidget(dialog)
    dialog.box.setValue(16)
    assert dict(pairwise(dialog.arguments(tmp_path / "new")))["--box"] == "16"
    dialog.form.editors["model"].setValue("compact")
    assert not dialog.start_button.isEnabled()
    assert "23" in dialog.start_button.toolTip()


def test_a_duplicate_takes_as_many_processes(runs, qtbot, tmp_path):
    kept = runs[0].config() | {"where": {"processes": 4}}
    runs[0].config_path.write_text(json.dumps(kept))
    dialog = DuplicateDialog(runs[0].path, [], None)
    qtbot.addWidget(dialog)
    assert dict(pairwise(dialog.arguments(tmp_path / "new")))["--processes"] == "4"


def test_a_run_is_duplicated_with_changes(runs, qtbot, tmp_path):
    dialog = DuplicateDialog(runs[0].path, ["one", "two", "one-2"], None)
    qtbot.addWidget(dialog)
    assert dialog.name() == "one-3"
    dialog.form.editors["epochs"].setValue(7)
    said = dialog.arguments(tmp_path / "new")
    assert said[0] == "train"
    options = dict(pairwise(said))
    assert options["--epochs"] == "7"
    assert options["--seed"] == "5"  # as the run's
    assert options["--data"].endswith("data")
    assert options["--out"] == str(tmp_path / "new")
    dialog.edit.setText("two")
    assert not dialog.start_button.isEnabled()
    assert "There is a run called two" in dialog.start_button.toolTip()


def test_a_duplicate_has_labels_of_its_own(runs, qtbot, tmp_path):
    labels = make_folder(runs[0].path / "data") / "labeled-picks.star"
    labels.write_text("the labels of that day")
    kept = runs[0].config()
    kept["data"]["data"] = [str(labels)]
    runs[0].config_path.write_text(json.dumps(kept))
    dialog = DuplicateDialog(runs[0].path, [], None)
    qtbot.addWidget(dialog)
    said = dict(pairwise(dialog.arguments(tmp_path / "new")))
    copied = tmp_path / "new" / "data" / "labeled-picks.star"
    assert said["--data"] == str(copied)
    delete_run(runs[0].path)
    assert copied.read_text() == "the labels of that day"


def test_what_is_said_is_of_the_run_that_is_named(panel, runs, qtbot):
    panel.choose([runs[0].path])
    click(qtbot, panel.attach_button)
    qtbot.waitUntil(lambda: not panel.watched.is_active)
    assert panel.watched_name.text() == "<b>one</b>"
    assert not panel.watched_name.isHidden()
    panel.status.say("The process is gone", is_error=True)
    panel.choose([runs[1].path])
    assert panel.watched_name.isHidden()
    assert panel.status.message.isHidden()


def test_a_new_run_is_chosen_once_it_is_there(panel, runs, qtbot, monkeypatch):
    monkeypatch.setenv("FAKE_WORKER", "wait")
    panel.choose([runs[0].path])
    kept = runs[0].config_path.read_text()

    def start():
        dialog = QApplication.activeModalWidget()
        click(qtbot, dialog.start_button)

    QTimer.singleShot(0, start)
    click(qtbot, panel.duplicate_button)
    new = Run(runs[0].path.parent / "one-2")
    assert [run.path for run in panel.chosen()] == [runs[0].path]
    new.config_path.write_text(kept)
    panel.refresh()
    assert [run.path for run in panel.chosen()] == [new.path]
    panel.choose([runs[1].path])
    panel.refresh()
    assert [run.path for run in panel.chosen()] == [runs[1].path]


def test_a_model_is_exported_for_other_programs(
    panel, runs, qtbot, answering, monkeypatch, tmp_path
):
    file = {"path": str(tmp_path / "m.v2.onnx"), "size_bytes": 65_432}
    answering({"files": [file | {"largest_difference": 2.5e-6}]})
    kind = "ONNX, for any program (*.onnx)"
    monkeypatch.setattr(
        "napari_ectkd.gui.model_export.QFileDialog.getSaveFileName",
        lambda *_: (str(tmp_path / "m.v2"), kind),
    )
    one, _ = runs
    with qtbot.waitSignal(panel.exporting.job.ended):
        panel.exporting.ask(one.path)
    said = panel.exporting.status.message.text()
    assert said.startswith("Wrote m.v2.onnx, 65 kB.")
    assert "2.5e-06 at most" in said
    # A file of the name that the ending makes is asked about.
    (tmp_path / "m.v2.onnx").write_text("mine")
    asked = []
    monkeypatch.setattr(
        QMessageBox,
        "question",
        lambda *a: asked.append(a) or QMessageBox.StandardButton.No,
    )
    panel.exporting.ask(one.path)
    assert len(asked) == 1
    assert not panel.exporting.job.is_active
    panel.exporting.write(one.path, tmp_path / "m.safetensors")
    assert "no checkpoint in this folder" in panel.exporting.status.message.text()


def test_a_duplicate_that_cannot_work_is_not_started(runs, qtbot):
    one, _ = runs
    kept = one.config()
    kept["data"]["box"] = 20
    one.config_path.write_text(json.dumps(kept))
    dialog = DuplicateDialog(one.path, [], None)
    qtbot.addWidget(dialog)
    assert dialog.start_button.isEnabled()
    dialog.form.editors["model"].setValue("compact")
    assert not dialog.start_button.isEnabled()
    assert "at least 23 voxels, not 20" in dialog.start_button.toolTip()


def test_a_search_is_duplicated_as_a_search(runs, qtbot, tmp_path):
    one, _ = runs
    kept = one.config() | {"kind": "distill", "teachers": ["t"]}
    kept["config"] = DistillConfig().model_dump(mode="json")
    kept["search"] = {"search": True, "trials": 4}
    one.config_path.write_text(json.dumps(kept))
    dialog = DuplicateDialog(one.path, [], None)
    qtbot.addWidget(dialog)
    said = dialog.arguments(tmp_path)
    assert "--search" in said
    assert said[said.index("--trials") + 1] == "4"


def test_what_is_wrong_with_a_run_is_said(panel, runs):
    one, two = runs
    one.best_path.write_text("no model")
    two.resume_path.unlink()
    panel.refresh()
    panel.choose([one.path])
    assert "not a checkpoint of ectkd" in panel.export_button.toolTip()
    assert "one has finished" in panel.resume_button.toolTip()
    panel.choose([two.path])
    assert "two has no model yet" in panel.export_button.toolTip()
    assert "saved no epoch to go on from" in panel.resume_button.toolTip()


@pytest.fixture
def refined(runs, tmp_path):
    run = Run(runs[0].path.parent / "refined-1")
    data = DataConfig(data=[tmp_path / "old"], tomograms=[tmp_path / "tomo.mrc"])
    run.create(
        {
            "kind": "refine",
            "data": data.model_dump(mode="json"),
            "config": {},
            "model": str(runs[0].path),
            "refine": RefineConfig(weight=5).model_dump(mode="json"),
            "hits": [str(tmp_path / "hits.star")],
        }
    )
    run.log(epoch(1))
    run.resume_path.touch()
    return run


def test_a_model_that_learned_again_is_resumed(refined, panel, qtbot, monkeypatch):
    monkeypatch.setenv("FAKE_WORKER", "finish")
    panel.choose([refined.path])
    assert panel.duplicate_button.isEnabled()
    job = panel.jobs.job("Training", can_go_on=True)
    with qtbot.waitSignal(job.ended):
        click(qtbot, panel.resume_button)
    qtbot.waitUntil(lambda: not panel.watched.is_active)
    assert job.folder == refined.path.absolute()


def test_learning_again_is_duplicated_with_changes(refined, qtbot, tmp_path):
    dialog = DuplicateDialog(refined.path, [], None)
    qtbot.addWidget(dialog)
    dialog.form.editors["epochs"].setValue(4)
    said = dialog.arguments(tmp_path / "new")
    assert said[:2] == ["refine", str(tmp_path / "hits.star")]
    options = dict(pairwise(said))
    assert options["--model"].endswith("one")
    assert options["--tomograms"] == str(tmp_path / "tomo.mrc")
    assert (options["--weight"], options["--epochs"]) == ("5", "4")
    kept = refined.config()
    del kept["hits"]
    refined.config_path.write_text(json.dumps(kept))
    with pytest.raises(ConfigError, match="did not note the hits"):
        DuplicateDialog(refined.path, [], None)


@pytest.mark.parametrize("answer", ["Yes", "No"])
def test_deleting_asks_first(panel, runs, qtbot, answer):
    panel.choose([runs[0].path])

    def reply():
        box = QApplication.activeModalWidget()
        assert "one" in box.text()
        click(qtbot, box.button(getattr(QMessageBox.StandardButton, answer)))

    QTimer.singleShot(0, reply)
    click(qtbot, panel.delete_button)
    assert runs[0].path.exists() == (answer == "No")
    names = [row[0] for row in panel.table.rows]
    assert ("one" in names) == (answer == "No")


def test_more_curves_of_one_run(qtbot):
    curves = DetailCurves(Palette({"a": "#ff0000"}))
    qtbot.addWidget(curves)
    for number in (1, 2, 3):
        metrics = {"recall: a": 0.2 * number, "learning_rate": 0.1 / number}
        curves.add(epoch(number, **metrics))
    curves.add(epoch(2, **{"recall: a": 0.9}))
    assert curves.points() == {"recall: a": ([1, 2], [0.2, 0.9])}
    curves.show()
    assert "#ff0000" in curves.names.text()
    assert curves.names.text().endswith("a")
    curves.kind.setValue("learning_rate")
    assert curves.points() == {"learning_rate": ([1], [0.1])}
    assert not curves.names.isVisible()
    assert len(items_of(curves.plot)) == 1
    curves.clear()
    assert not items_of(curves.plot)


def test_what_the_network_sees(qtbot, tmp_path):
    view = ExampleView(Palette())
    qtbot.addWidget(view)
    run = Run(tmp_path)
    view.show_run(run.path)
    assert not view.pictures
    slices = np.zeros((3, 2, 8, 8), np.float16)
    slices[1, 0, 2, 5] = 9  # bright at y 2, x 5
    slices[2, 0] = np.linspace(-1, 1, 64).reshape(8, 8)
    with run.examples_path.open("wb") as file:
        np.savez(file, slices=slices, label=np.array(["a", "b", "b"]))
    view.show_run(run.path)
    assert [picture.toolTip() for picture in view.pictures] == ["a", "b", "b"]
    image = view.pictures[1].pixmap().toImage()
    edge = image.width()
    at = [int((n + 0.5) * edge / 8) for n in (5, 2)]
    assert image.pixelColor(*at).value() == 255
    assert image.pixelColor(at[1], at[0]).value() < 255


@pytest.fixture
def answering(monkeypatch, tmp_path):
    """A worker that finishes at once with a result."""

    def answer(result):
        script = tmp_path / "worker.py"
        line = Finished(result=result).line()
        script.write_text(
            "import sys, pathlib\n"
            "from napari_ectkd.jobs import JobFolder\n"
            "from napari_ectkd.events import parse_event\n"
            "job = JobFolder(sys.argv[sys.argv.index('--job') + 1])\n"
            f"job.begin(); job.log(parse_event({json.dumps(line)}))\n"
        )
        monkeypatch.setattr(Job, "program", [sys.executable, str(script)])

    return answer


def test_the_setup_is_checked(qtbot, answering):
    finding = {"what": "cuda:0: X <1>", "verdict": "bad", "text": "update the driver"}
    answering({"findings": [finding], "is_good": False})
    dialog = SetupCheck()
    qtbot.addWidget(dialog)
    with qtbot.waitSignal(dialog.job.ended):
        dialog.show()
    assert "✗ cuda:0: X &lt;1>" in dialog.findings.text()
    assert "update the driver" in dialog.findings.text()
    dialog.done(0)


def test_suspect_labels_are_listed_and_shown(viewer, qtbot, answering, monkeypatch):
    session = Session.of(viewer)
    name = session.current.name
    positions = np.arange(24).reshape(8, 3) * 8.0
    labels = ["a", "a", "a", "a", "b", "b", "b", "b"]
    panel = TrainPanel(viewer)
    qtbot.addWidget(panel)
    suspects = panel.suspects
    assert not suspects.button.isEnabled()
    session.set_picks(name, Picks.create(positions, name, label=labels))
    assert suspects.button.isEnabled()
    z, y, x = positions[5]
    row = {"row": 6, "tomogram": name, "z": z, "y": y, "x": x, "margin": -0.9}
    row |= {"label": "b", "suggested": "a"}
    answering({"n": 1, "n_labels": 8, "suspects": [row]})
    panel.form.editors["device"].setValue("cpu")
    started = []
    start = suspects.job.start
    monkeypatch.setattr(
        suspects.job, "start", lambda *a: started.append(a[0]) or start(*a)
    )
    with qtbot.waitSignal(suspects.job.ended):
        click(qtbot, suspects.button)
    assert dict(pairwise(started[0]))["--device"] == "cpu"  # as the form says
    assert "1 of 8 labels to look at again" in suspects.said.text()
    suspects.table.selectRow(0)
    assert session.layers.points(name).selected_data == {5}
    assert viewer.dims.point[0] == pytest.approx(z, abs=10)
    assert list(session.picks(name).label) == labels  # nothing was changed


def test_suspect_labels_are_judged_in_their_list(viewer, qtbot, answering):
    session = Session.of(viewer)
    name = session.current.name
    positions = np.arange(24).reshape(8, 3) * 8.0
    labels = ["a", "a", "a", "a", "b", "b", "b", "b"]
    session.set_picks(name, Picks.create(positions, name, label=labels))
    rows = [
        {"row": i + 1, "tomogram": name, "margin": -0.9, "label": old, "suggested": new}
        | dict(zip("zyx", positions[i], strict=True))
        for i, old, new in ((5, "b", "a"), (0, "a", "b"), (2, "a", "b"))
    ]
    answering({"n": 3, "n_labels": 8, "suspects": rows})
    panel = TrainPanel(viewer)
    qtbot.addWidget(panel)
    suspects = panel.suspects
    with qtbot.waitSignal(suspects.job.ended):
        click(qtbot, suspects.button)
    assert not suspects.relabel_button.isEnabled()  # no row is chosen

    def said():
        return [suspects.table.item(i, 0).text() for i in range(3)]

    suspects.table.selectRow(0)
    click(qtbot, suspects.relabel_button)
    assert list(session.picks(name).label) == [*"aaaa", *"babb"]
    assert said() == ["✓ b → a", "a", "a"]
    assert session.layers.points(name).selected_data == {0}  # the next one
    click(qtbot, suspects.keep_button)
    assert said() == ["✓ b → a", "✓ a", "a"]
    assert "2 judged" in suspects.said.text()
    # What happens elsewhere is followed: undo, and a pick that is gone.
    session.undo_stack.undo()
    assert said()[0] == "b"
    session.set_picks(name, session.picks(name)[[0, 1, 3, 4, 5, 6, 7]])
    assert said()[2] == "✓ a → deleted"
    suspects.table.selectRow(2)
    assert not suspects.relabel_button.isEnabled()
    suspects.table.selectRow(0)
    click(qtbot, suspects.relabel_button)
    assert list(session.picks(name).label) == ["a", "a", "a", *"babb"]


def test_what_the_settings_come_to_is_said(viewer, qtbot):
    session = Session.of(viewer)
    name = session.current.name
    panel = TrainPanel(viewer)
    qtbot.addWidget(panel)
    assert panel.plan() == ""
    labels = ["a"] * 60 + ["b"] * 65
    positions = np.random.default_rng(0).uniform(0, 100, (125, 3))
    session.set_picks(name, Picks.create(positions, name, label=labels))
    # 100 of 125 are learned from, in two batches; 1,500 batches are 750 epochs.
    assert panel.plan_label.text() == "750 epochs of 2 batches of 50 subtomograms"
    panel.form.editors["members"].setValue(3)
    panel.form.editors["epochs"].setValue(7)
    assert panel.plan() == "3 times 7 epochs of 2 batches of 50 subtomograms"
    session.set_picks(name, Picks.create(positions[:20], name, label=labels[50:70]))
    assert panel.plan().endswith("once more from all 20 labels")
    # Of four labels three are learned from.
    session.set_picks(name, Picks.create(positions[:64], name, label=labels[:64]))
    assert panel.plan().endswith("\n⚠ Few labels: b 4")


def test_the_batch_is_proposed_from_the_device_s_memory(viewer, qtbot):
    panel = TrainPanel(viewer)
    qtbot.addWidget(panel)
    batch = panel.form.editors["batch_size"]
    panel.data.box.setValue(96)
    small = [Device("cpu", "a processor", 8 * 2**30)]
    panel.form.editors["device"].offer(small)
    proposed = batch.value()
    assert 4 <= proposed < 50
    panel.form.editors["model"].setValue("residual_small")  # needs less
    assert batch.value() > proposed
    batch.setValue(11)
    panel.form.editors["model"].setValue("residual")
    assert batch.value() == 11  # what was chosen stays


@pytest.mark.parametrize("source", ["files", "stream"])
def test_a_data_set_on_disk_says_its_box(viewer, qtbot, tmp_path, source):
    simulation = SubtomogramSettings(density=[tmp_path / "a.mrc"], per_class=9, box=96)
    info = StackInfo(
        box=96,
        voxel_size=10,
        classes=["a", "none"],
        simulation=simulation.model_dump(mode="json"),
    )
    (tmp_path / "dataset.json").write_text(info.model_dump_json())
    panel = TrainPanel(viewer)
    qtbot.addWidget(panel)
    panel.data.source.setValue(source)
    assert panel.data.box_px() is None  # none is chosen yet
    panel.form.editors["device"].offer([Device("cpu", "a processor", 8 * 2**30)])
    assert panel.form.editors["batch_size"].value() == 50
    chooser = panel.data.files if source == "files" else panel.data.settings
    chooser.setValue([tmp_path] if source == "files" else tmp_path)
    assert panel.data.box_px() == 96
    assert 4 <= panel.form.editors["batch_size"].value() < 50
    (tmp_path / "dataset.json").write_text("{")
    assert panel.data.box_px() is None
