import json
import sys
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QCheckBox

from napari_ectkd.devices.choice import Device
from napari_ectkd.gui import device_chooser
from napari_ectkd.gui.classify_panel import ClassifyPanel
from napari_ectkd.gui.device_chooser import DeviceChooser, ask_devices
from napari_ectkd.gui.distill_panel import DistillPanel
from napari_ectkd.gui.jobs import Job
from napari_ectkd.gui.session import Session
from napari_ectkd.gui.train_panel import TrainPanel
from napari_ectkd.io.picks import Picks
from napari_ectkd.io.star import read_picks
from napari_ectkd.models.registry import smallest_box
from napari_ectkd.runs import Run

WORKER = Path(__file__).parents[1] / "fake_worker.py"


@pytest.fixture
def viewer(qtbot, monkeypatch, make_mrc):
    monkeypatch.setattr(Job, "program", [sys.executable, str(WORKER)])
    viewer = ViewerModel()
    noise = np.random.default_rng(0).normal(size=(20, 24, 24)).astype(np.float32)
    Session.of(viewer).open_tomogram(make_mrc(noise))
    yield viewer
    Session.of(viewer).save()


@pytest.fixture
def panel(viewer, qtbot):
    panel = TrainPanel(viewer)
    qtbot.addWidget(panel)
    yield panel
    panel.jobs.stop_all()


def label(viewer, labels):
    session = Session.of(viewer)
    name = session.current.name
    positions = np.arange(3 * len(labels)).reshape(-1, 3)
    session.set_picks(name, Picks.create(positions, name, label=labels))


def test_start_waits_for_labels_and_says_so(panel, viewer):
    assert not panel.start_button.isEnabled()
    assert "Label at least two classes" in panel.start_button.toolTip()
    label(viewer, ["a", "a", "b"])
    assert "two picks of each class; b has one" in panel.start_button.toolTip()
    label(viewer, ["a", "a", "b", "b"])
    assert panel.start_button.isEnabled()
    assert "4 labels in 1 tomogram: a 2 · b 2" in panel.data.counts.text()
    assert "No pick is labeled none" in panel.data.counts.text()
    label(viewer, ["a", "a", "b", "b", "none"])
    assert "No pick is labeled none" not in panel.data.counts.text()


def test_the_box_follows_the_diameter(panel, viewer):
    Session.of(viewer).set_diameter(250)
    assert panel.data.box.value() == 40
    assert "400 Å" in panel.data.extent.text()
    panel.data.box.setValue(24)
    Session.of(viewer).set_diameter(300)
    assert panel.data.box.value() == 24


def test_no_box_is_proposed_that_no_student_takes(panel, viewer):
    Session.of(viewer).set_diameter(100)
    assert panel.data.box.value() >= smallest_box("student")
    assert "No student" not in panel.data.extent.text()
    panel.data.box.setValue(16)
    assert f"takes fewer than {smallest_box('student')}" in panel.data.extent.text()


def test_unlabeled_picks_teach_in_generations(panel, viewer, tmp_path):
    label(viewer, ["a", "a", "b", "b"])
    assert not panel.also_unlabeled.isEnabled()
    assert "All picks are labeled" in panel.also_unlabeled.toolTip()
    label(viewer, [*["a", "b"] * 50, *[""] * 300])
    assert panel.also_unlabeled.text().endswith("(300)")
    assert panel.extra_arguments(tmp_path) == []
    assert "unlabeled" not in panel.plan_label.text()
    panel.also_unlabeled.click()
    flag, path = panel.extra_arguments(tmp_path)
    assert flag == "--unlabeled"
    picks = read_picks(Path(path))
    assert len(picks) == 300
    assert not picks.is_labeled.any()
    # 80 labels to learn from and 300 besides: 7 batches of 50, 1,500 in all.
    text = panel.plan_label.text()
    assert text.endswith(
        "then, 2 times, 2 networks by about 215 epochs of 7 batches from those before "
        "and the unlabeled picks"
    )
    label(viewer, [*["a", "b"] * 10, *[""] * 300])
    assert panel.plan().endswith(
        "; each then learns as long once more from all 20 labels"
    )
    panel.form.editors["generations"].setValue(2)
    assert "then, once, 2 networks" in panel.plan_label.text()
    panel.data.show_files([tmp_path])
    assert not panel.also_unlabeled.is_wanted()
    assert panel.extra_arguments(tmp_path) == []


def test_what_is_known_of_a_later_generation_is_said(panel, viewer, tmp_path):
    panel.show_result(
        {
            "model": "compact_wide",
            "seconds": 1.0,
            "best_epoch": 2,
            "val_accuracy": 0.9,
            "val_macro_f1": 0.9,
            "report": {"classes": {}, "accuracy": 0.9, "macro_f1": 0.9},
            "members": 2,
            "generation": 3,
            "member_val_accuracy": [0.8, 0.85],
        }
    )
    text = panel.summary.text()
    assert text.startswith("2 members together, of generation 3. compact_wide:")
    assert text.endswith("Alone: 80.0%, 85.0%.")


def test_a_network_that_cannot_take_the_box_is_said(panel, viewer):
    label(viewer, ["a", "a", "b", "b"])
    panel.data.box.setValue(16)
    panel.form.editors["model"].setValue("compact")
    assert "at least 23 voxels" in panel.start_button.toolTip()


def test_a_run_is_followed_to_its_end(panel, viewer, qtbot, monkeypatch):
    label(viewer, ["a", "a", "b", "b"])
    monkeypatch.setenv("FAKE_WORKER", "finish")
    with qtbot.waitSignal(panel.job.ended):
        panel.start_button.click()
        assert not panel.start_button.isEnabled()
    run = panel.job.folder
    assert run == Session.of(viewer).runs_folder() / "teacher-1"
    assert (run / "data" / "labeled-picks.star").exists()
    assert panel.curves.points("val_loss") == ([1, 3], [1.5, 0.5])
    assert panel.table.rowCount() == 2
    assert "validation accuracy 60.0%" in panel.summary.text()
    assert "few labels" in panel.status.warnings.text()
    assert panel.start_button.isEnabled()


def test_a_run_that_another_panel_begins_is_shown_alone(
    panel, viewer, qtbot, monkeypatch, tmp_path
):
    label(viewer, ["a", "a", "b", "b"])
    monkeypatch.setenv("FAKE_WORKER", "finish")
    with qtbot.waitSignal(panel.job.ended):
        panel.start_button.click()
    assert not panel.summary.isHidden()
    monkeypatch.setenv("FAKE_WORKER", "wait")
    with qtbot.waitSignal(panel.job.progressed):
        panel.job.start(["train", "--out", str(tmp_path / "b")], tmp_path / "b")
    qtbot.waitUntil(lambda: bool(panel.curves.points("loss")[0]))
    assert panel.curves.points("loss")[0] == [1]
    assert panel.summary.isHidden()
    assert "Training is at work" in panel.start_button.toolTip()
    with qtbot.waitSignal(panel.job.ended):
        panel.status.cancel_button.click()
    assert panel.start_button.isEnabled()


def test_the_name_proposed_is_no_folder_s(panel, viewer):
    folder = Session.of(viewer).runs_folder()
    (folder / "teacher-1").mkdir(parents=True)  # a run whose settings are lost
    panel.refresh_runs()
    assert panel.name.text() == "teacher-2"


def test_classify_refuses_a_model_that_is_a_text(viewer, qtbot, tmp_path):
    label(viewer, ["a", "b"])
    (tmp_path / "best.safetensors").write_text("no model")
    classify = ClassifyPanel(viewer)
    qtbot.addWidget(classify)
    classify.model.setValue(tmp_path)
    assert not classify.start_button.isEnabled()
    assert "not a checkpoint of ectkd" in classify.start_button.toolTip()


def test_a_run_without_validation_is_shown_to_its_end(
    panel, viewer, qtbot, monkeypatch
):
    label(viewer, ["a", "a", "b", "b"])
    monkeypatch.setenv("FAKE_WORKER", "unvalidated")
    with qtbot.waitSignal(panel.job.ended):
        panel.start_button.click()
    assert "nothing says how good it is" in panel.summary.text()
    assert panel.table.isHidden()


def test_an_error_in_the_worker_is_shown_and_start_works_again(
    panel, viewer, qtbot, monkeypatch
):
    label(viewer, ["a", "a", "b", "b"])
    monkeypatch.setenv("FAKE_WORKER", "fail")
    with qtbot.waitSignal(panel.job.ended):
        panel.start_button.click()
    assert panel.status.message.text() == "out of memory"
    assert "RuntimeError" in panel.status.details.toPlainText()
    assert panel.start_button.isEnabled()


def test_cancel_from_the_status_line(panel, viewer, qtbot, monkeypatch):
    label(viewer, ["a", "a", "b", "b"])
    monkeypatch.setenv("FAKE_WORKER", "wait")
    with qtbot.waitSignal(panel.job.progressed):
        panel.start_button.click()
    with qtbot.waitSignal(panel.job.ended):
        panel.status.cancel_button.click()
    assert "Cancelled" in panel.status.message.text()
    assert panel.start_button.isEnabled()


def test_a_run_that_went_on_is_followed_by_the_next_window(
    panel, viewer, qtbot, monkeypatch
):
    label(viewer, ["a", "a", "b", "b"])
    monkeypatch.setenv("FAKE_WORKER", "wait")
    with qtbot.waitSignal(panel.job.progressed):
        panel.start_button.click()
    run = panel.job.folder
    (run / "config.json").write_text(json.dumps({"kind": "train"}))
    panel.job.detach()
    path = Session.of(viewer).current.path
    Session.of(viewer).save()
    other = ViewerModel()
    Session.of(other).open_tomogram(path)
    later = TrainPanel(other)
    qtbot.addWidget(later)
    assert later.job.is_active
    assert later.job.folder == run
    with qtbot.waitSignal(later.job.ended):
        later.status.cancel_button.click()


def test_devices_are_offered_by_name_and_memory(qtbot):
    chooser = DeviceChooser()
    qtbot.addWidget(chooser)
    chooser.offer([Device("cuda:0", "A", 2**33), Device("cpu", "Processor", None)])
    assert [chooser.itemText(row) for row in range(3)] == [
        "the fastest (A)",
        "cuda:0: A, 8 GiB free",
        "cpu: Processor",
    ]
    assert chooser.value() == "auto"


def test_cuda_s_memory_is_asked_for_by_a_process_of_its_own(monkeypatch):
    def hang():
        raise AssertionError("in this process")

    monkeypatch.setattr("torch.version.cuda", "13.0")
    monkeypatch.setattr("torch.cuda.is_available", hang)
    monkeypatch.setattr(device_chooser, "list_devices", hang)
    processor = ask_devices()[-1]
    assert processor.name == "cpu"
    assert processor.free_bytes > 0  # it answered


def test_distilling_needs_a_teacher_and_classifying_a_model(viewer, qtbot):
    label(viewer, ["a", "a", "b", "b"])
    distill, classify = DistillPanel(viewer), ClassifyPanel(viewer)
    qtbot.addWidget(distill)
    qtbot.addWidget(classify)
    assert "Choose a teacher" in distill.start_button.toolTip()
    assert "Choose a model" in classify.start_button.toolTip()


def test_a_student_is_compared_with_its_teacher(viewer, qtbot, monkeypatch, tmp_path):
    panel = DistillPanel(viewer)
    qtbot.addWidget(panel)
    monkeypatch.setenv("FAKE_WORKER", "finish")
    with qtbot.waitSignal(panel.job.ended):
        panel.job.start(["distill", "--out", str(tmp_path / "run")], tmp_path / "run")
    assert "20 times as fast" in panel.summary.text()
    header = [panel.comparison.horizontalHeaderItem(i).text() for i in range(3)]
    assert header == ["", "Teacher", "Student"]
    assert panel.comparison.item(4, 2).text() == "20×"


def predicted(table):
    """Return the column of predictions of a table of classes."""
    items = [
        [table.table.item(row, i).text() for i in (1, 4)]
        for row in range(table.table.rowCount())
    ]
    return dict(items)


def test_hiding_a_class_and_raising_the_confidence(viewer, qtbot):
    session = Session.of(viewer)
    name = session.current.name
    picks = Picks.create(
        np.arange(9).reshape(3, 3), name, prediction=["a", "a", "b"],
        confidence=[0.9, 0.4, 0.9],
    )  # fmt: skip
    session.set_picks(name, picks)
    panel = ClassifyPanel(viewer)
    qtbot.addWidget(panel)
    assert predicted(panel.classes)["a"] == "2"
    panel.filters.confidence.setValue(0.5)
    assert predicted(panel.classes)["unknown"] == "1"


def test_who_takes_automatic_away_starts_from_what_it_comes_to(panel, viewer):
    label(viewer, ["a", "b"] * 125)
    editors = panel.form.editors
    for name, value in (("epochs", 375), ("patience", 125), ("learning_rate", 0.003)):
        assert editors[name].value() is None
        [tick] = editors[name].findChildren(QCheckBox)
        tick.click()
        assert editors[name].value() == pytest.approx(value), name
    # What somebody chose stays.
    editors["epochs"].setValue(7)
    label(viewer, ["a", "b"] * 20)
    assert panel.form.value().epochs == 7


def test_the_run_that_ended_is_the_one_to_resume(panel, viewer, qtbot, monkeypatch):
    label(viewer, ["a", "a", "b", "b"])
    folder = Session.of(viewer).runs_folder()
    Run(folder / "older").create({"kind": "train"})
    monkeypatch.setenv("FAKE_WORKER", "wait")
    panel.refresh_runs()
    panel.runs.setValue(folder / "older")
    with qtbot.waitSignal(panel.job.progressed):
        panel.start_button.click()
    # The worker makes no folder of a run; the true one does.
    (panel.job.folder / "config.json").write_text('{"kind": "train"}')
    with qtbot.waitSignal(panel.job.ended):
        panel.status.cancel_button.click()
    assert panel.runs.value() == panel.job.folder


def test_runs_made_elsewhere_are_seen_once_the_panel_is_shown(panel, viewer, qtbot):
    label(viewer, ["a", "a", "b", "b"])
    assert panel.runs.value() is None
    Run(Session.of(viewer).runs_folder() / "shell").create({"kind": "train"})
    panel.show()
    assert panel.runs.value().name == "shell"
