import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from napari_ectkd.dataset.augment import wedge_rotations
from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.distillation import generations
from napari_ectkd.distillation.config import GenerationConfig
from napari_ectkd.distillation.generations import train
from napari_ectkd.distillation.lessons import SOFT_LABELS, SOFT_LABELS_OF_ALL
from napari_ectkd.distillation.ways import HOW, MEMBERS
from napari_ectkd.errors import ConfigError, FileMissingError
from napari_ectkd.events import (
    Cancel,
    CancelledError,
    EpochEnd,
    Finished,
    Noted,
    Progress,
)
from napari_ectkd.models.checkpoint import load_checkpoint, read_info
from napari_ectkd.runs import Run, members_of
from napari_ectkd.simulation.config import SubtomogramSimulation
from napari_ectkd.simulation.subtomograms import simulate_subtomograms
from napari_ectkd.training import keeping
from napari_ectkd.training.run_list import find_run
from napari_ectkd.training.train import prepare

QUICK = {
    "model": "residual_small",
    "epochs": 2,
    "batch_size": 8,
    "precision": "float32",
    "device": "cpu",
    "validation_fraction": 0.34,
}


@pytest.fixture(scope="module")
def more(tmp_path_factory):
    """Phantoms whose labels nobody reads."""
    out = tmp_path_factory.mktemp("more") / "data"
    config = SubtomogramSimulation(
        out=out, per_class=2, none=2, box=24, voxel_size=14, snr=20, seed=5
    )
    for _ in simulate_subtomograms(config, cancel=Cancel()):
        pass
    return out


def start(run, phantoms, more, *, cancel=None, is_resumed=False, **settings):
    """Return the stream of a teacher's training."""
    given = {"unlabeled": [more], "refit": False, **QUICK} | settings
    return train(
        DataConfig(data=[phantoms]),
        GenerationConfig(**given),
        run,
        cancel=cancel or Cancel(),
        is_resumed=is_resumed,
    )


@pytest.fixture
def learn(tmp_path, phantoms, more):
    """Return the stream of a teacher's training, and its run."""

    def begin(name="teacher", **settings):
        run = Run(tmp_path / name)
        return start(run, phantoms, more, **settings), run

    return begin


BROKEN_OFF = {"members": 1, "generations": 3, "refit": True, "epochs": 3}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, phantoms, more):
    """The run that those are compared with that were stopped on their way."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    run = Run(tmp_path_factory.mktemp("whole") / "teacher")
    for _ in start(run, phantoms, more, **BROKEN_OFF):
        pass
    torch.set_num_threads(threads)
    return run


def test_each_generation_learns_from_the_one_before_it(learn, phantoms, more):
    stream, run = learn(members=3, generations=3)
    events = list(stream)
    material = value_of(
        prepare(DataConfig(data=[phantoms]), GenerationConfig(**QUICK), Cancel())
    )
    # The folders: the last generation is what a distillation asks.
    names = [path.name for path in members_of(run.path)]
    assert names == [f"member-{n}" for n in range(1, MEMBERS + 1)]
    homes = [run.generation(1), run.generation(2), run]
    assert not run.generation(3).path.exists()
    assert [len(home.members()) for home in homes] == [3, MEMBERS, MEMBERS]
    for member in homes[0].members():
        info = read_info(member.path)
        assert (info.model, info.trained_by) == ("residual_small", "train")
    for before, home in pairwise(homes):
        seeds = []
        for member in home.members():
            info = read_info(member.path)
            assert (info.model, info.trained_by) == ("compact_wide", "distill")
            card = json.loads(member.card_path.with_suffix(".json").read_text())
            assert card["settings"].items() >= HOW.items()
            assert card["settings"]["split_seed"] == 0
            assert card["data"]["unlabeled"] > 0
            seeds.append(card["settings"]["seed"])
        assert len(set(seeds)) == MEMBERS
        said = load_file(home.path / SOFT_LABELS)["logits"]
        assert said.shape == (len(before.members()), 24 + 16, 8)
        opinion = opinions(before, material, np.arange(24))
        torch.testing.assert_close(said[:, :24], opinion, rtol=1e-4, atol=1e-4)
    # The events: one count of epochs, a number for each network, nothing said twice.
    ends = [e for e in events if isinstance(e, EpochEnd)]
    n = QUICK["epochs"] * (3 + 2 * MEMBERS)
    assert [e.epoch for e in ends] == list(range(1, n + 1))
    assert ends[-1].epochs == n
    assert [e.member for e in ends[::2]] == list(range(1, 3 + 2 * MEMBERS + 1))
    assert ends[0].seconds_left is None
    assert all(e.seconds_left > 0 for e in ends[6::2])
    assert ends[-1].seconds_left == 0
    texts = [e.text for e in events if isinstance(e, Noted)]
    for once in (
        "16 unlabeled subtomograms to learn the teacher's opinion of",
        "generation 2 of 3: 2 × compact_wide learn what generation 1 thinks",
        "generation 3 of 3: 2 × compact_wide learn what generation 2 thinks",
    ):
        assert texts.count(once) == 1
    stages = {e.stage for e in events if isinstance(e, Progress)}
    assert "generation 1 of 3, member 3 of 3: validate" in stages
    assert "generation 3 of 3, member 2 of 2: validate" in stages
    # The result: what the last generation is together, over the rotations.
    assert isinstance(events[-1], Finished)
    result = events[-1].result
    json.dumps(result)
    assert (result["generation"], result["members"]) == (3, MEMBERS)
    assert result["n_unlabeled"] > 0
    assert result["val_accuracy"] == pytest.approx(accuracy(run, material))
    best = run.member(result["best_member"])
    said = result["member_val_accuracy"][result["best_member"] - 1]
    assert read_info(run.path).metrics["val_accuracy"] == said
    assert find_run(run.path).val_accuracy == result["val_accuracy"]
    assert texts[-1].startswith("of the validation part generation 1 is right on")
    assert "val_accuracy" in read_info(run.generation(1).path).metrics
    assert run.best_path.read_bytes() == best.best_path.read_bytes()
    assert "a teacher of generation 3" in run.card_path.read_text()
    assert not run.can_resume()


def value_of(stream):
    while True:
        try:
            next(stream)
        except StopIteration as end:
            return end.value


def opinions(run, material, index):
    """Logits of each member over the wedge's rotations: by hand."""
    found = []
    for path in members_of(run.path):
        model, _ = load_checkpoint(path)
        looks = []
        for signs in wedge_rotations((-60, 60)):
            z, y, x = (np.arange(24) if s > 0 else -np.arange(24) % 24 for s in signs)
            turned = material.data.read(index)[:, z][:, :, y][..., x]
            with torch.no_grad():
                looks.append(model(torch.from_numpy(turned.copy())[:, None]))
        found.append(torch.stack(looks).mean(dim=0))
    return torch.stack(found)


def accuracy(run, material):
    """What the members are right on together, of the validation part."""
    index = material.split.validation
    said = opinions(run, material, index).mean(dim=0).argmax(dim=1).numpy()
    return (said == material.targets[index]).mean()


@pytest.mark.parametrize(
    ("place", "network", "is_again"),
    [
        ("generation-1/member-1", 0, True),
        ("generation-2/member-1", 1, False),
        ("member-2", 4, True),
    ],
)
def test_a_stopped_one_goes_on_to_the_same_weights(
    learn, whole, monkeypatch, place, network, is_again
):
    monkeypatch.setattr(keeping, "SECONDS_BETWEEN_SAVES", 0)
    cancel = Cancel()
    stream, part = learn(cancel=cancel, **BROKEN_OFF)
    here = part.path / place / ("all-labels" if is_again else "")
    for event in stream:
        is_step = "once more" in event.stage if isinstance(event, Progress) else False
        is_step = is_step if is_again else isinstance(event, EpochEnd)
        if is_step and (here / "resume.safetensors").exists():
            break
    cancel.request()
    with pytest.raises(CancelledError):
        list(stream)
    assert part.can_resume()
    assert not part.best_path.exists()
    if network == 4:  # the first member is there, but it is no teacher yet
        with pytest.raises(ConfigError, match=r"not all learned yet.*--resume"):
            members_of(part.path)
    stream, _ = learn(is_resumed=True, **BROKEN_OFF)
    events = list(stream)
    texts = [e.text for e in events if isinstance(e, Noted)]
    [done] = [
        int(found[1])
        for text in texts
        if (found := re.match(r"going on after epoch ([12]) of 3", text))
    ]
    ends = [e for e in events if isinstance(e, EpochEnd)]
    epochs = list(range(3 * network + 1 + (3 if is_again else done), 16))
    assert [e.epoch for e in ends] == epochs
    if epochs:
        assert ends[-1].epochs == 15
    assert isinstance(events[-1], Finished)
    for one, other in zip(whole.members(), part.members(), strict=True):
        theirs = load_file(other.best_path)
        for name, tensor in load_file(one.best_path).items():
            assert torch.equal(tensor, theirs[name]), name


def test_the_figures_are_of_what_never_saw_the_validation_part(whole):
    # Not even through teachers that learned once more, from all labels.
    for before, home in pairwise([whole.generation(1), whole.generation(2), whole]):
        for member in before.members():
            assert member.validated_path.exists()
        asked = load_file(home.path / SOFT_LABELS)["logits"]
        asked_all = load_file(home.path / SOFT_LABELS_OF_ALL)["logits"]
        assert not torch.allclose(asked, asked_all)


def test_a_new_start_does_not_take_the_parts_of_another(learn, tmp_path):
    cancel = Cancel()
    stream, run = learn(cancel=cancel, members=2)
    run.create({"kind": "train"})
    while not isinstance(next(stream), EpochEnd):
        pass
    cancel.request()
    with pytest.raises(CancelledError):
        list(stream)
    with pytest.raises(ConfigError, match=r"holds a run already.*--resume"):
        run.create({"kind": "train"})


def test_a_last_generation_that_is_worse_is_said():
    at = {"val_accuracy": 0.9}
    worse = generations._compared(at, {"val_accuracy": 0.8, "generation": 3})
    assert worse.is_warning
    assert "the folder generation-1 of this run" in worse.text
    better = generations._compared(at, {"val_accuracy": 0.95, "generation": 2})
    assert not better.is_warning
    assert better.text.endswith("on 90.0%, generation 2 on 95.0%")


def test_without_unlabeled_ones_it_is_an_ensemble(learn):
    stream, run = learn(unlabeled=[], members=2, epochs=1)
    result = list(stream)[-1].result
    assert "generation" not in result
    assert not run.generation(1).path.exists()
    assert {read_info(m.path).model for m in run.members()} == {"residual_small"}


def test_without_a_validation_part(learn):
    stream, run = learn(validation_fraction=0, generations=2, epochs=1)
    events = list(stream)
    assert "val_accuracy" not in events[-1].result
    assert len(run.members()) == MEMBERS
    assert run.best_path.exists()


def test_a_box_too_small_for_the_students(learn, monkeypatch):
    monkeypatch.setattr(generations, "NETWORKS", ("student1", "residual_small"))
    stream, run = learn(generations=2, epochs=1)  # student1 takes 27 voxels, not 24
    list(stream)
    assert {read_info(m.path).model for m in run.members()} == {"residual_small"}


def test_what_cannot_work_is_said_at_the_call(learn, tmp_path, more):
    with pytest.raises(ConfigError, match="no network called"):
        learn(model="vgg")
    with pytest.raises(FileMissingError, match="nothing to resume"):
        learn(is_resumed=True)
    stream = DataConfig(stream=tmp_path / "settings.json")
    config = GenerationConfig(unlabeled=[more], **QUICK)
    with pytest.raises(ConfigError, match=r"leave the unlabeled ones out"):
        train(stream, config, Run(tmp_path / "x"), cancel=Cancel())
    # What is not there is found out before anything is trained.
    events = []
    with pytest.raises(FileMissingError, match="nowhere"):
        events.extend(learn(unlabeled=[Path("nowhere")])[0])
    assert not any(isinstance(e, EpochEnd) for e in events)
