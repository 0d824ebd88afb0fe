import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file

from napari_ectkd.errors import FileMissingError, FormatError, WriteError
from napari_ectkd.models.checkpoint import (
    Calibration,
    CheckpointInfo,
    Normalization,
    load_checkpoint,
    read_info,
    save_checkpoint,
)
from napari_ectkd.models.registry import MODELS, build_model


def info(model="compact", box=24, **changes):
    settings = {
        "model": model,
        "classes": ["b", "ä 1", "none"],
        "colors": {"b": "#ff0000"},
        "box": box,
        "voxel_size": 13.48,
        "is_inverted": True,
        "tilt_range": (-60.0, 48.5),
        "normalization": Normalization(mode="subtomogram"),
        "trained_by": "distill",
        "epoch": 7,
        "metrics": {"val_loss": 0.1234567890123},
        "software": "0.1",
    }
    return CheckpointInfo(**settings | changes)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "run" / "best.safetensors"
    save_checkpoint(path, build_model("compact", 3, 24), info())
    return path


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"dsrf3d_v2"}))
def test_a_checkpoint_comes_back_as_it_was(tmp_path, name):
    box = MODELS[name].min_box
    model = build_model(name, 3, box)
    volumes = torch.randn(4, 1, box, box, box)
    model.train()(volumes)  # so that batch norms have seen something
    model = model.eval().to(memory_format=torch.channels_last_3d)
    save_checkpoint(tmp_path / "m.safetensors", model, info(name, box))
    loaded, found = load_checkpoint(tmp_path / "m.safetensors")
    assert found == info(name, box)
    assert read_info(tmp_path / "m.safetensors") == found
    assert not loaded.training
    with torch.no_grad():
        torch.testing.assert_close(
            loaded(volumes), model(volumes), rtol=1e-5, atol=1e-6
        )
    for key, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor)


def test_a_run_folder_stands_for_its_best_weights(saved):
    assert read_info(saved.parent) == read_info(saved)


def test_a_checkpoint_needs_no_other_file(saved, tmp_path):
    lone = tmp_path / "lone.safetensors"
    saved.rename(lone)
    model, found = load_checkpoint(lone)
    assert model(torch.zeros(1, 1, 24, 24, 24)).shape == (1, 3)
    assert found.classes == ["b", "ä 1", "none"]


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(FileMissingError, match="no such file"):
        load_checkpoint(tmp_path / "x.safetensors")
    with pytest.raises(FileMissingError, match="no checkpoint in this folder"):
        load_checkpoint(tmp_path)


def is_one_line(error):
    # A temporary folder may have a long name.
    return "\n" not in str(error.value) and len(str(error.value)) < 500


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_no_pickle_is_executed(tmp_path, suffix):
    mark = tmp_path / "exploded"
    bomb = tmp_path / f"bomb{suffix}"
    bomb.write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(FormatError, match="not a checkpoint of ectkd") as error:
        load_checkpoint(bomb)
    assert is_one_line(error)
    torch.save({"weights": torch.zeros(3), "bomb": Bomb(mark)}, bomb)
    with pytest.raises(FormatError, match="not a checkpoint of ectkd") as error:
        load_checkpoint(bomb)
    assert is_one_line(error)
    assert not mark.exists()
    with pickle.loads(pickle.dumps(Bomb(mark))):
        assert mark.exists()  # so that the check can fail


def test_foreign_safetensors_are_an_error(tmp_path):
    path = tmp_path / "foreign.safetensors"
    save_file({"a": np.zeros(3)}, path)
    with pytest.raises(FormatError, match="not written by ectkd") as error:
        load_checkpoint(path)
    assert is_one_line(error)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_an_error(saved, share):
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(FormatError) as error:
        load_checkpoint(saved)
    assert is_one_line(error)


def test_weights_of_another_network_are_an_error(tmp_path):
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, build_model("residual_small", 3, 24), info("compact"))
    with pytest.raises(FormatError, match="not those of a compact") as error:
        load_checkpoint(path)
    assert is_one_line(error)
    save_checkpoint(path, build_model("compact", 4, 24), info("compact"))
    with pytest.raises(FormatError, match="3 classes"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"box": 0},
        {"classes": ["one"]},
        {"strange": 1},
        {"voxel_size": "wide"},
        {"model": "vgg"},
        {"box": 8},
    ],
)
def test_metadata_that_cannot_be_is_an_error(saved, changes):
    facts = json.loads(info().model_dump_json()) | changes
    tensors = {k: t.numpy() for k, t in load_file(saved).items()}
    save_file(tensors, saved, metadata={"ectkd": json.dumps(facts)})
    with pytest.raises(FormatError) as error:
        load_checkpoint(saved)
    assert is_one_line(error)


def test_broken_json_in_the_metadata_is_an_error(saved):
    save_file({"a": np.zeros(3)}, saved, metadata={"ectkd": "{"})
    with pytest.raises(FormatError, match="cannot read") as error:
        read_info(saved)
    assert is_one_line(error)


def test_an_unwritable_place_is_an_error_and_an_old_file_stays(saved, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError):
        save_checkpoint(
            tmp_path / "file" / "m.safetensors", build_model("compact", 3, 24), info()
        )
    before = saved.read_bytes()
    with pytest.raises(AttributeError):
        save_checkpoint(saved, None, info())
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_calibration_comes_back_and_an_older_file_has_none(tmp_path):
    found = Calibration(
        temperature=1.7,
        min_confidence=0.6,
        n=40,
        error_before=0.2,
        error_after=0.03,
        precision=0.96,
        kept=0.9,
    )
    model, path = build_model("compact", 3, 24), tmp_path / "m.safetensors"
    save_checkpoint(path, model, info(calibration=found))
    back = read_info(path)
    assert back.calibration == found
    assert (back.temperature, back.min_confidence) == (1.7, 0.6)
    older = json.loads(info().model_dump_json())
    del older["calibration"]
    save_file(
        {k: v.numpy() for k, v in model.state_dict().items()},
        path,
        metadata={"ectkd": json.dumps(older)},
    )
    _, back = load_checkpoint(path)
    assert (back.temperature, back.min_confidence) == (1.0, 0.0)
