import json
import os
import time

import pytest

from napari_ectkd.errors import ConfigError, FileMissingError
from napari_ectkd.events import Finished, Noted
from napari_ectkd.jobs import HEARTBEAT
from napari_ectkd.models.checkpoint import load_checkpoint
from napari_ectkd.runs import Run
from napari_ectkd.training.run_list import (
    delete_run,
    export_model,
    find_run,
    find_runs,
)


@pytest.fixture
def trained(learn):
    stream, run = learn("trained", epochs=2)
    run.create({"kind": "train", "data": {}, "config": {}})
    for event in stream:
        run.log(event)
    return run


def test_runs_are_found_with_what_can_be_said_of_them(trained, tmp_path):
    (tmp_path / "empty").mkdir()
    Run(tmp_path / "new").create({"kind": "distill"})
    new, old = find_runs(tmp_path)
    assert (new.path.name, new.kind, new.state, new.info) == (
        "new",
        "distill",
        "new",
        None,
    )
    facts = old.as_dict()
    assert facts["state"] == "finished"
    assert (facts["epoch"], facts["epochs"]) == (2, 2)
    assert facts["val_accuracy"] == old.info.metrics["val_accuracy"]
    assert not facts["can_resume"]
    assert json.loads(json.dumps(facts)) == facts
    assert find_run(tmp_path / "empty") is None


def test_an_exported_model_is_the_run_s_and_needs_nothing_else(trained, tmp_path):
    out = tmp_path / "elsewhere" / "model.safetensors"
    assert export_model(trained.path, out) == [out, out.with_suffix(".md")]
    mine, info = load_checkpoint(trained.path)
    delete_run(trained.path)
    assert not trained.path.exists()
    exported, same_info = load_checkpoint(out)
    assert info == same_info
    for name, tensor in mine.state_dict().items():
        assert exported.state_dict()[name].equal(tensor)
    with pytest.raises(ConfigError, match=r"ends in \.safetensors"):
        export_model(out, tmp_path / "model.pt")
    with pytest.raises(ConfigError, match="the run's own model"):
        export_model(out, out)


def test_only_runs_that_rest_are_deleted(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(FileMissingError, match="no run"):
        delete_run(tmp_path / "photos")
    assert (tmp_path / "photos").exists()
    run = Run(tmp_path / "run")
    run.create({"kind": "train"})
    run.begin()
    with pytest.raises(ConfigError, match="is at work"):
        delete_run(run.path)
    assert run.path.exists()


def test_a_run_on_another_machine_lives_while_it_speaks(tmp_path):
    run = Run(tmp_path / "run")
    run.create({"kind": "train"})
    facts = {"pid": 1, "created": 0.0, "host": "a-cluster-node"}
    (run.path / "process.json").write_text(json.dumps(facts))
    run.log(Noted(text="here"))
    assert run.state() == "running"
    long_ago = time.time() - HEARTBEAT - 5
    for path in run.path.iterdir():
        os.utime(path, (long_ago, long_ago))
    assert run.state() == "interrupted"
    run.log(Noted(text="here again"))
    assert run.state() == "running"
    run.log(Finished())
    assert run.state() == "finished"
