import json
import sys
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt

from napari_ectkd.distillation.front import (
    read_front,
    trial_run,
    with_times_of,
    write_front,
)
from napari_ectkd.events import EpochEnd, Failed, Finished
from napari_ectkd.gui.distill_panel import DistillPanel
from napari_ectkd.gui.forecast import about_student, about_teacher
from napari_ectkd.gui.front_plot import FrontPlot
from napari_ectkd.gui.jobs import Job
from napari_ectkd.gui.result_table import ResultTable
from napari_ectkd.gui.session import Session
from napari_ectkd.io.picks import Picks
from napari_ectkd.models.checkpoint import (
    Calibration,
    CheckpointInfo,
    Normalization,
    save_checkpoint,
)
from napari_ectkd.models.registry import build_model
from napari_ectkd.runs import Run
from napari_ectkd.training.run_list import delete_run, find_run

WORKER = Path(__file__).parents[1] / "fake_worker.py"
CALIBRATION = Calibration(
    temperature=1.7,
    min_confidence=0.6,
    n=40,
    error_before=0.2,
    error_after=0.031,
    precision=0.96,
    kept=0.9,
)


def write_run(path, model="residual_small", kind="train", box=24, **changes):
    run = Run(path)
    run.create({"kind": kind})
    info = CheckpointInfo(
        model=model,
        classes=["a", "b"],
        box=box,
        voxel_size=10,
        normalization=Normalization(mode="data"),
        trained_by=kind,
        metrics={"val_accuracy": 0.912},
        **changes,
    )
    save_checkpoint(run.best_path, build_model(model, 2, box), info)
    return run


@pytest.fixture
def panel(qtbot, monkeypatch, make_mrc):
    monkeypatch.setattr(Job, "program", [sys.executable, str(WORKER)])
    viewer = ViewerModel()
    session = Session.of(viewer)
    noise = np.random.default_rng(0).normal(size=(20, 24, 24)).astype(np.float32)
    session.open_tomogram(make_mrc(noise))
    labels = ["a", "a", "b", "b", "", ""]
    positions = np.arange(18).reshape(-1, 3)
    name = session.current.name
    session.set_picks(name, Picks.create(positions, name, label=labels))
    write_run(session.runs_folder() / "teacher-1", calibration=CALIBRATION)
    panel = DistillPanel(viewer)
    qtbot.addWidget(panel)
    yield panel
    panel.jobs.stop_all()
    session.save()


def test_a_teacher_says_what_it_is(panel):
    [teacher] = panel.chosen_teachers()
    text = panel.about_teachers.text()
    assert text == about_teacher(teacher)
    assert "residual_small, 2 classes, box 24 at 10 Å, 91.2% right" in text
    assert "confidence is off by 3.1%" in text
    card = {
        "data": {"labels": {"a": {"training": 7}, "b": {"training": 5}}},
        "metrics": {},
        "training": {},
    }
    path = Run(teacher.path).card_path.with_suffix(".json")
    path.write_text(json.dumps(card))
    assert "learned from 12 labels of 2 classes, box" in about_teacher(teacher)
    path.write_text(json.dumps(card | {"training": {"is_refit": True}}))
    assert "2 classes, then once more from all, box" in about_teacher(teacher)


def test_without_a_teacher_the_panel_says_how_to_get_one(panel):
    panel.teachers.clear()
    panel.refresh_runs()
    assert panel.about_teachers.text().startswith("<b>teacher-1</b>")
    delete_run(panel.session.runs_folder() / "teacher-1")
    panel.teachers.clear()
    panel.refresh_runs()
    assert "train one in step 2" in panel.about_teachers.text()


def test_a_student_is_foreseen_before_it_is_trained(panel, tmp_path):
    assert "times as fast as the teacher" in panel.about_student.text()
    assert "of memory" in panel.about_student.text()
    panel.form.editors["model"].setValue("residual_small")
    assert "no faster than the teacher" in panel.about_student.text()
    assert "1 times fewer" in about_student(
        "residual_small", panel.chosen_teachers(), 50
    )
    twice = about_student("residual_small", 2 * panel.chosen_teachers(), 50)
    assert "2 times fewer; about 2 times as fast as the teachers together" in twice
    small = find_run(write_run(tmp_path / "small", "residual_small").path)
    assert "23 voxels" in about_student("compact", [with_box(small, 16)], 50)


def with_box(run, box):
    from dataclasses import replace

    return replace(run, info=run.info.model_copy(update={"box": box}))


def test_tick_boxes_become_arguments(panel, tmp_path):
    from napari_ectkd.gui.forms import arguments
    from napari_ectkd.io.star import read_picks

    assert panel.also_unlabeled.text().endswith("(2)")
    run = tmp_path / "run"
    assert "--unlabeled" not in panel.extra_arguments(run)
    panel.also_unlabeled.click()
    panel.baseline.click()
    given = panel.extra_arguments(run)
    picks = read_picks(Path(given[given.index("--unlabeled") + 1]))
    assert len(picks) == 2
    assert not picks.is_labeled.any()
    assert arguments(panel.form.value()).count("--baseline") == 1
    assert "--search" not in given
    panel.search.click()
    panel.trials.setValue(5)
    given = panel.extra_arguments(run)
    assert given[-3:] == ["--search", "--trials", "5"]
    assert not panel.form.editors["model"].isEnabled()


def test_the_newest_that_has_finished_is_the_teacher(panel):
    folder = panel.session.runs_folder()
    Run(folder / "teacher-1").log(Finished())
    write_run(folder / "teacher-2").log(Failed(message="memory ran out"))
    panel.refresh_runs()
    assert panel.teachers.count() == 2
    assert [run.path.name for run in panel.chosen_teachers()] == ["teacher-1"]


def test_a_class_without_validation_picks_has_no_score(panel):
    scores = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
    panel.table.show_report({"classes": {"a": scores}})
    assert [panel.table.item(0, i).text() for i in range(5)] == ["a", *"–––", "0"]


def test_unlabeled_picks_are_not_offered_where_there_are_none(panel):
    session = panel.session
    name = session.current.name
    session.set_picks(name, Picks.create(np.ones((2, 3)), name, label=["a", "b"]))
    assert not panel.also_unlabeled.isEnabled()
    assert "All picks are labeled" in panel.also_unlabeled.toolTip()


def test_the_baseline_is_a_curve_of_its_own(panel):
    metrics = {"loss": 1.0, "accuracy": 0.5, "baseline_val_accuracy": 0.7}
    panel.curves.add(EpochEnd(epoch=2, epochs=5, metrics=metrics))
    assert panel.curves.points("baseline_val_accuracy") == ([2], [0.7])
    panel.curves.clear()
    assert panel.curves.points("baseline_val_accuracy") == ([], [])


def row(trial, accuracy, speed, *, is_used=False):
    return {
        "trial": trial,
        "model": "compact",
        "val_accuracy": accuracy,
        "ms_per_subtomogram": 10 / speed,
        "speed": speed,
        "is_on_front": True,
        "is_used": is_used,
    }


def test_without_validation_only_costs_are_shown(panel, tmp_path):
    panel.job.folder = tmp_path
    network = {"name": "n", "parameters": 9, "macs": 9, "size_bytes": 9}
    panel.show_result(
        {
            "model": "compact",
            "seconds": 1.0,
            "best_epoch": 2,
            "is_refit": True,
            "n_unlabeled": 6,
            "comparison": [
                network | {"role": "teacher", "ms_per_subtomogram": 10.0},
                network | {"role": "student", "ms_per_subtomogram": 0.5},
            ],
        }
    )
    text = panel.summary.text()
    assert "20 times as fast as its teacher. compact: no validation" in text
    assert "once more, from all labels. It learned from 6 unlabeled picks too" in text
    assert panel.comparison.rowCount() > 5
    for empty in (panel.front, panel.table, panel.agreement, panel.scores_hint):
        assert empty.isHidden()


def test_a_click_on_a_point_makes_that_student_the_runs_model(panel, qtbot):
    run = write_run(panel.session.runs_folder() / "search", "compact", "distill")
    network = {
        "parameters": 10,
        "macs": 100,
        "size_bytes": 50,
        "calibration_error": 0.1,
    }
    for trial in (1, 2):
        own = write_run(trial_run(run, trial).path, "compact", "distill")
        own.best_path.write_bytes(own.best_path.read_bytes() + b" " * trial)
        entry = {**network, "name": "t", "ms_per_subtomogram": 1, "val_accuracy": 0.9}
        result = {
            "model": f"student of trial {trial}",
            "seconds": 1.0,
            "best_epoch": 3,
            "val_accuracy": 0.9,
            "val_macro_f1": 0.8,
            "report": {"classes": {}},
            "comparison": [entry | {"role": "teacher"}, entry | {"role": "student"}],
        }
        own.log(Finished(result=result))
    run.log(Finished(result=result))
    write_front(run, [row(1, 0.9, 20), row(2, 0.95, 5, is_used=True)])
    with qtbot.waitSignal(panel.job.ended):
        panel.show_run(run.path)
    points = {point.data(): point for point in panel.front.scatter.points()}
    assert points[2].size() > points[1].size()
    panel.front.scatter.sigClicked.emit(panel.front.scatter, [points[1]], None)
    assert run.best_path.read_bytes() == trial_run(run, 1).best_path.read_bytes()
    assert [r["is_used"] for r in read_front(run)] == [True, False]
    assert "student of trial 1" in panel.summary.text()
    assert "Trial 1 is now the model of search" in panel.status.message.text()


def test_the_plot_has_a_point_for_each_network(qtbot):
    plot = FrontPlot()
    qtbot.addWidget(plot)
    entry = {"name": "x", "val_accuracy": 0.9}
    plot.show_networks(
        [
            entry | {"role": "teacher", "ms_per_subtomogram": 10.0},
            entry | {"role": "labels alone", "ms_per_subtomogram": 0.5},
            entry | {"role": "student", "ms_per_subtomogram": 0.1},
        ]
    )
    places = [point.pos().x() for point in plot.scatter.points()]
    np.testing.assert_allclose(places, np.log10([1, 20, 100]))
    plot.chosen.connect(lambda _: pytest.fail("these cannot be chosen"))
    plot.scatter.sigClicked.emit(plot.scatter, plot.scatter.points(), None)


def test_several_teachers_are_what_they_are_together(qtbot):
    plot, table = FrontPlot(), ResultTable()
    qtbot.addWidget(plot)
    qtbot.addWidget(table)
    cost = {"parameters": 9, "macs": 9, "size_bytes": 9, "val_accuracy": 0.9}
    rows = [
        {**cost, "name": name, "role": role, "ms_per_subtomogram": ms}
        for name, role, ms in (
            ("member-1", "teacher", 4.0),
            ("member-2", "teacher", 6.0),
            ("2 together", "teachers", 10.0),
            ("compact", "student", 0.1),
        )
    ]
    rows[-1] |= {"calibration_error": 0.02, "min_confidence": 0.6}
    plot.show_networks(rows)
    places = [point.pos().x() for point in plot.scatter.points()]
    np.testing.assert_allclose(places, np.log10([1, 100]))
    table.show_comparison(rows)
    shown = {
        table.item(row, 0).text(): [table.item(row, j).text() for j in (1, 2)]
        for row in range(table.rowCount())
    }
    assert shown["Network"] == ["2 together", "compact"]
    assert shown["Speed"] == ["1×", "100×"]
    assert shown["Confidence off by"] == ["–", "2.0 %"]
    assert shown["Unknown below"] == ["–", "60.0 %"]


def test_the_time_of_several_teachers_is_of_all():
    rows = [
        {"role": "teacher", "ms_per_subtomogram": 1.0},
        {"role": "teacher", "ms_per_subtomogram": 3.0},
        {"role": "teachers", "ms_per_subtomogram": 4.0},
        {"role": "student", "ms_per_subtomogram": 0.7},
    ]
    row = {"ms_per_subtomogram": 0.5, "speed": 16.0}
    timed = with_times_of(row, {"comparison": rows})["comparison"]
    assert [entry["ms_per_subtomogram"] for entry in timed] == [2.0, 6.0, 8.0, 0.5]


def test_a_teacher_with_too_small_a_box_is_said_before_distilling(panel):
    folder = panel.session.runs_folder()
    write_run(folder / "narrow", box=20)
    panel.refresh_runs()
    panel.teachers.item(0).setCheckState(Qt.CheckState.Checked)
    assert "narrow sees boxes of 20 voxels" in panel.problem()
    assert panel.about_student.text() == panel.problem()
    panel.form.editors["model"].setValue("residual_small")
    assert panel.problem() == ""


def test_the_newest_teacher_is_ticked_until_somebody_chooses(panel):
    folder = panel.session.runs_folder()

    def ticked():
        panel.refresh_runs()
        return [run.path.name for run in panel.chosen_teachers()]

    first = ticked()
    write_run(folder / "newer")
    assert ticked() == ["newer"] != first
    item = next(
        panel.teachers.item(i)
        for i in range(panel.teachers.count())
        if "newer" not in panel.teachers.item(i).text()
    )
    item.setCheckState(Qt.CheckState.Checked)
    chosen = ticked()
    write_run(folder / "newest")
    assert ticked() == chosen
    assert len(chosen) == 2
