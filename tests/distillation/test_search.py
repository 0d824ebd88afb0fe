import csv
import json

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.distillation import search as stage
from napari_ectkd.distillation import soft_labels
from napari_ectkd.distillation.config import DistillConfig, SearchConfig
from napari_ectkd.distillation.front import (
    mark_front,
    read_front,
    recommended,
    trial_run,
    use_trial,
)
from napari_ectkd.distillation.search import family, search
from napari_ectkd.errors import ConfigError, FileMissingError
from napari_ectkd.events import Cancel, CancelledError, Finished, Progress, Saved
from napari_ectkd.models.checkpoint import read_info
from napari_ectkd.models.registry import MODELS
from napari_ectkd.runs import Run


def student(accuracy, ms, **more):
    return {"val_accuracy": accuracy, "ms_per_subtomogram": ms, **more}


def test_the_front_is_what_nothing_beats_in_both():
    rows = [
        student(0.90, 1.0),
        student(0.95, 2.0),
        student(0.89, 1.5),  # the first is better in both
        student(0.95, 3.0),  # as accurate as the second, and slower
        student(0.97, 9.0),
        student(0.95, 2.0),  # the second again
    ]
    mark_front(rows)
    found = [row["is_on_front"] for row in rows]
    assert found == [True, True, False, False, True, False]


def test_the_fastest_within_a_point_is_recommended():
    rows = [student(0.94, 1.0), student(0.96, 2.0), student(0.97, 9.0)]
    mark_front(rows)
    assert recommended(rows)["ms_per_subtomogram"] == 2.0
    rows.append(student(0.99, 50.0))
    mark_front(rows)
    assert recommended(rows)["ms_per_subtomogram"] == 50.0


def test_the_family_is_ours_and_takes_the_box():
    assert "compact" in family(32)
    assert not {"student1", "dsrf3d_v2"} & set(family(32))
    assert all(MODELS[name].min_box <= 24 for name in family(24))
    assert family(8) == [n for n in family(32) if MODELS[n].min_box <= 8]


@pytest.fixture
def start(tmp_path, phantoms, teacher, monkeypatch):
    # Two of the family are enough to see a choice.
    monkeypatch.setattr(stage, "family", lambda _: ["compact", "residual_small"])

    def begin(name="search", trials=3, cancel=None, **settings):
        run = Run(tmp_path / name)
        run.path.mkdir(exist_ok=True)
        defaults = {"epochs": 2, "batch_size": 8, "precision": "float32"}
        config = DistillConfig(
            **defaults | {"validation_fraction": 0.34, "device": "cpu"} | settings
        )
        stream = search(
            [teacher],
            DataConfig(data=[phantoms]),
            config,
            SearchConfig(search=True, trials=trials),
            run,
            cancel=cancel or Cancel(),
        )
        return stream, run

    return begin


def test_a_search_that_was_stopped_goes_on(start, monkeypatch):
    asked = []
    real = soft_labels.ask_teachers

    def counted(teachers, data, index, *rest):
        asked.append(len(index))
        return real(teachers, data, index, *rest)

    monkeypatch.setattr(soft_labels, "ask_teachers", counted)
    cancel = Cancel()
    stream, run = start(cancel=cancel)
    for event in stream:
        if isinstance(event, Progress) and event.stage.startswith("student 2 of 3"):
            break
    cancel.request()
    with pytest.raises(CancelledError):
        list(stream)
    assert run.can_resume()
    assert not run.best_path.exists()
    assert [row["trial"] for row in read_front(run)] == [1]
    assert trial_run(run, 2).state() != "finished"
    first = trial_run(run, 1).best_path.stat()

    stream, _ = start()
    events = list(stream)
    assert isinstance(events[-1], Finished)
    result = events[-1].result
    json.dumps(result)
    assert not run.can_resume()
    assert trial_run(run, 1).best_path.stat().st_mtime_ns == first.st_mtime_ns
    stages = {e.stage for e in events if isinstance(e, Progress)}
    assert not any(stage.startswith("student 1 of 3") for stage in stages)
    rows = result["front"]
    assert [row["trial"] for row in rows] == [1, 2, 3]
    assert {row["model"] for row in rows[:2]} == {"compact", "residual_small"}
    assert rows == read_front(run)
    # Each network was tried with the settings given, also the one that was stopped,
    # and the tuner was told of each what came of it.
    assert [row["temperature"] for row in rows[:2]] == [1.0, 1.0]
    study = optuna.load_study(
        study_name="search",
        storage=JournalStorage(JournalFileBackend(str(run.search_path))),
    )
    told = [(t.params["model"], t.values) for t in study.trials]
    assert told == [(r["model"], [r["val_accuracy"], r["macs"]]) for r in rows]
    with (run.path / "front.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(r["val_accuracy"]) for r in table] == [
        row["val_accuracy"] for row in rows
    ]
    # One network is as fast in one trial as in another.
    times = {(row["model"], row["ms_per_subtomogram"]) for row in rows}
    assert len(times) == 2
    [used] = [row for row in rows if row["is_used"]]
    assert used["is_on_front"]
    assert read_info(run.path) == read_info(trial_run(run, used["trial"]).path)
    assert result["model"] == used["model"]
    assert result["val_accuracy"] == used["val_accuracy"]
    theirs, ours = (e["ms_per_subtomogram"] for e in result["comparison"])
    assert ours == used["ms_per_subtomogram"]
    assert theirs / ours == pytest.approx(used["speed"])
    assert [e.path for e in events if isinstance(e, Saved)][-1] == str(run.best_path)
    assert asked == [24]  # all subtomograms once, for the first trial

    other = next(row["trial"] for row in rows if not row["is_used"])
    after = use_trial(run, other)
    assert [row["trial"] for row in after if row["is_used"]] == [other]
    assert run.best_path.read_bytes() == trial_run(run, other).best_path.read_bytes()
    assert read_front(run) == after
    assert run.card_path.read_text().startswith(f"# {run.path.name}\n")
    with pytest.raises(ConfigError, match="no student from trial 9"):
        use_trial(run, 9)


def test_what_cannot_be_searched_is_said_at_the_call(start, monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match="--validation-fraction"):
        start(validation_fraction=0)
    monkeypatch.setattr(stage, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"napari-ectkd\[search\]"):
        start()
    with pytest.raises(FileMissingError, match="no search"):
        read_front(Run(tmp_path))
