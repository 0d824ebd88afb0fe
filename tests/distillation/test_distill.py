import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from napari_ectkd.dataset.augment import wedge_rotations
from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.dataset.sources import load_dataset
from napari_ectkd.dataset.split import Split
from napari_ectkd.distillation import distill as stage
from napari_ectkd.distillation import lessons
from napari_ectkd.distillation.config import DistillConfig
from napari_ectkd.distillation.soft_labels import (
    LiveOpinion,
    ask_once,
    ask_teachers,
    load_teacher,
)
from napari_ectkd.errors import ConfigError, DataError, FileMissingError, FormatError
from napari_ectkd.events import Cancel, CancelledError, EpochEnd, Finished, Progress
from napari_ectkd.models.checkpoint import (
    Normalization,
    load_checkpoint,
    read_info,
    save_checkpoint,
)
from napari_ectkd.runs import Run
from napari_ectkd.simulation.config import SubtomogramSimulation
from napari_ectkd.simulation.subtomograms import simulate_subtomograms
from napari_ectkd.training import keeping
from napari_ectkd.training.batches import Material
from napari_ectkd.training.objective import Batch

CLASSES = ["barrel", "disc", "dumbbell", "helix", "ring", "shell", "tripod", "none"]


def value_of(stream):
    while True:
        try:
            next(stream)
        except StopIteration as end:
            return end.value


@pytest.fixture
def data(phantoms):
    return value_of(load_dataset(DataConfig(data=[phantoms]), cancel=Cancel()))


def ask(paths, data, classes):
    config = DistillConfig(precision="float32", device="cpu")
    teachers = [load_teacher(path) for path in paths]
    every = np.arange(len(data))
    asked = ask_teachers(teachers, data, every, classes, config, Cancel())
    return value_of(asked), teachers


def test_the_whole_stage(learn, teacher):
    stream, run = learn(epochs=3, validation_fraction=0.34)
    events = list(stream)
    assert isinstance(events[-1], Finished)
    json.dumps(events[-1].result)
    result = events[-1].result
    rows = result["comparison"]
    assert [row["role"] for row in rows] == ["teacher", "student"]
    assert [row["model"] for row in rows] == ["residual_small", "compact"]
    assert rows[0]["parameters"] > rows[1]["parameters"] > 0
    assert all(row["ms_per_subtomogram"] > 0 for row in rows)
    assert rows[0]["size_bytes"] == (teacher / "best.safetensors").stat().st_size
    assert rows[1]["size_bytes"] == run.best_path.stat().st_size
    # They agree where the student is right, since the teacher always is.
    of_all = result["agreement"]
    assert of_all["share"] == pytest.approx(rows[1]["val_accuracy"])
    assert list(of_all["classes"]) == read_info(teacher).classes
    for name, of in of_all["classes"].items():
        assert (of["n"], of["teacher"]) == (1, 1.0)
        assert (
            of["share"] == of["student"] == result["report"]["classes"][name]["recall"]
        )
    # The student is calibrated, the teacher had no validation part.
    calibration = result["calibration"]
    assert rows[1]["calibration_error"] == pytest.approx(calibration["error_after"])
    assert read_info(run.path).temperature == calibration["temperature"] != 1
    assert read_info(teacher).calibration is None
    # The teacher knows all by heart; the epochs say what is to be reached.
    assert rows[0]["val_accuracy"] == pytest.approx(1)
    ends = [e for e in events if isinstance(e, EpochEnd)]
    assert {e.metrics["teacher_val_accuracy"] for e in ends} == {1.0}
    info = read_info(run.path)
    assert (info.model, info.trained_by) == ("compact", "distill")
    assert info.classes == read_info(teacher).classes


def test_the_same_student_on_labels_alone_is_compared(learn, teacher):
    cancel = Cancel()
    settings = {"epochs": 4, "validation_fraction": 0.34, "baseline": True}
    stream, run = learn(cancel=cancel, **settings)
    for event in stream:
        if isinstance(event, Progress) and event.stage.startswith("on labels alone"):
            break
    cancel.request()
    with pytest.raises(CancelledError):
        list(stream)
    assert run.can_resume()
    stream, run = learn(is_resumed=True, **settings)
    events = list(stream)
    rows = events[-1].result["comparison"]
    assert [row["role"] for row in rows] == ["teacher", "labels alone", "student"]
    assert rows[1]["parameters"] == rows[2]["parameters"]
    told = [e for e in run.baseline.events() if isinstance(e, EpochEnd)]
    assert [e.epoch for e in told] == [1, 2, 3, 4]  # gone on with, not begun anew
    ends = [e for e in events if isinstance(e, EpochEnd)]
    assert [e.metrics["baseline_val_accuracy"] for e in ends] == [
        e.metrics["val_accuracy"] for e in told
    ]
    assert read_info(run.baseline.path).trained_by == "train"
    assert read_info(run.path).trained_by == "distill"
    assert not run.can_resume()


def test_the_teacher_is_left_as_it_was(learn, teacher, monkeypatch):
    used = []
    real = stage.load_teacher

    def kept(path):
        used.append(real(path))
        return used[-1]

    monkeypatch.setattr(stage, "load_teacher", kept)
    before = (teacher / "best.safetensors").read_bytes()
    list(learn()[0])
    [one] = used
    assert not any(module.training for module in one.model.modules())
    assert all(p.grad is None and not p.requires_grad for p in one.model.parameters())
    saved = load_file(teacher / "best.safetensors")
    for name, tensor in one.model.state_dict().items():
        assert torch.equal(tensor.cpu(), saved[name])  # batch statistics too
    assert (teacher / "best.safetensors").read_bytes() == before


def test_a_student_learns_from_soft_labels_alone(learn, teacher, tmp_path, data):
    # The labels are wrong, the teacher is right, and the student follows the teacher.
    model, info = load_checkpoint(teacher)
    [opinion], _ = ask([teacher], data, info.classes)
    names = np.array(info.classes)[opinion.argmax(dim=1).numpy()]
    assert (names == data.label).all()
    liars = tmp_path / "liars.safetensors"
    turned = info.classes[1:] + info.classes[:1]
    save_checkpoint(liars, model, info.model_copy(update={"classes": turned}))
    stream, run = learn(
        teachers=[liars],
        soft_weight=1.0,
        epochs=60,
        shift=0,
        validation_fraction=0,
    )
    list(stream)
    student, info = load_checkpoint(run.path)
    with torch.no_grad():
        logits = student(torch.from_numpy(data.read(np.arange(len(data))))[:, None])
    said = np.array(info.classes)[logits.argmax(dim=1).numpy()]
    told = [turned[read_info(teacher).classes.index(name)] for name in data.label]
    assert (said == np.array(told)).mean() > 0.7
    assert (said == data.label).mean() < 0.2


@pytest.mark.parametrize(
    "settings",
    [
        {"objective": "logits"},
        {"temperature": 8},
        {"teacher_sees": "view"},
    ],
)
def test_each_way_lowers_the_loss(learn, settings):
    stream, _ = learn(epochs=30, soft_weight=1.0, **settings)
    ends = [e for e in stream if isinstance(e, EpochEnd)]
    assert ends[-1].metrics["loss"] < 0.7 * ends[0].metrics["loss"]


def test_opinions_are_averaged_over_views_that_keep_the_wedge(untrained, data):
    path = untrained()
    [opinion], [one] = ask([path], data, read_info(path).classes)
    assert opinion.shape == (24, 8)
    volumes = data.read(np.arange(3))
    looks = []
    for signs in wedge_rotations((-60, 60)):
        z, y, x = (np.arange(24) if s > 0 else -np.arange(24) % 24 for s in signs)
        turned = torch.from_numpy(volumes[:, z][:, :, y][..., x])[:, None]
        with torch.no_grad():
            looks.append(one.model(turned))
    torch.testing.assert_close(
        opinion[:3], torch.stack(looks).mean(dim=0), rtol=1e-4, atol=1e-5
    )
    assert len(looks) == 4
    assert not torch.allclose(looks[0], looks[1])


def test_classes_are_mapped_to_the_datas_order(untrained, data):
    there = read_info(untrained()).classes
    here = there[3:] + there[:3]
    path = untrained()
    [as_they], _ = ask([path], data, there)
    [as_we], _ = ask([path], data, here)
    for name in there:
        assert torch.equal(as_they[:, there.index(name)], as_we[:, here.index(name)])
    assert not torch.equal(as_they, as_we)


def test_two_teachers_count_as_their_mean(learn, teacher, untrained, monkeypatch, data):
    seen = []

    class Kept(lessons.SoftLabels):
        def __init__(self, opinion, *rest):
            seen.append(opinion.logits)
            super().__init__(opinion, *rest)

    monkeypatch.setattr(lessons, "SoftLabels", Kept)
    other = untrained()
    stream, _ = learn(teachers=[teacher, other], epochs=1)
    events = list(stream)
    opinions, _ = ask([teacher, other], data, data.classes)
    torch.testing.assert_close(seen[0], (opinions[0] + opinions[1]) / 2)
    rows = events[-1].result["comparison"]
    roles = ["teacher", "teacher", "teachers", "student"]
    assert [row["role"] for row in rows] == roles
    assert [row["name"] for row in rows] == [
        "teacher",
        "other",
        "2 together",
        "compact",
    ]
    stages = {e.stage for e in events if isinstance(e, Progress)}
    assert {"soft labels of teacher", "soft labels of other"} <= stages


def test_the_teachers_judge_the_view_that_the_student_sees(untrained, data):
    one, two = load_teacher(untrained()), load_teacher(untrained("b", "residual_small"))
    classes = data.classes
    index = torch.tensor([3, 1])
    volumes = torch.from_numpy(data.read(index.numpy()))[:, None].flip(3)
    with torch.no_grad():
        wanted = (one.model(volumes) + two.model(volumes)) / 2
    order = [CLASSES.index(name) for name in classes]
    batch = Batch(volumes, torch.zeros(2, dtype=torch.int64), index)
    found = LiveOpinion([one, two], classes)(batch)
    torch.testing.assert_close(found, wanted[:, order], rtol=1e-4, atol=1e-5)


def test_what_teachers_said_is_kept_for_a_resumed_run(untrained, data, tmp_path):
    config = DistillConfig(precision="float32", device="cpu")
    teachers = [load_teacher(untrained())]
    path = tmp_path / "soft.safetensors"
    every = np.arange(len(data))
    split = Split(every, every[:0], "")
    of = data.targets(data.classes)
    material = Material(data, split, of, data.classes, "as it was")
    asked = (teachers, material, config, Cancel())
    said = value_of(ask_once(path, *asked))
    assert list(ask_once(path, *asked)) == []  # nobody is asked
    assert torch.equal(value_of(ask_once(path, *asked)), said)
    other = [load_teacher(untrained("b", "residual_small"))]
    again = value_of(ask_once(path, other, *asked[1:]))
    assert not torch.allclose(again, said)
    assert list(ask_once(path, other, *asked[1:])) == []
    changed = replace(material, fingerprint="otherwise")
    assert list(ask_once(path, other, changed, *asked[2:]))  # they are asked again


def test_a_student_learns_of_unlabeled_ones_what_the_teacher_thinks(
    learn, teacher, phantoms, tmp_path
):
    config = SubtomogramSimulation(
        out=tmp_path / "more",
        per_class=4,
        none=4,
        box=24,
        voxel_size=14,
        snr=20,
        off_center=0,
        seed=5,
    )
    list(simulate_subtomograms(config, cancel=Cancel()))
    stream, run = learn(unlabeled=[tmp_path / "more"], epochs=2)
    events = list(stream)
    texts = [getattr(event, "text", "") for event in events]
    assert "32 unlabeled subtomograms to learn the teacher's opinion of" in texts
    assert events[-1].result["n_unlabeled"] == 32
    said = load_file(run.path / "soft_labels.safetensors")["logits"]
    assert said.shape == (1, 24 + 32, 8)
    [opinion], _ = ask(
        [teacher],
        value_of(load_dataset(DataConfig(data=[tmp_path / "more"]), cancel=Cancel())),
        CLASSES,
    )
    # Each set is scaled by its own statistics, in the stage as by itself.
    torch.testing.assert_close(said[0, 24:], opinion, rtol=1e-4, atol=1e-4)
    card = run.card_path.read_text()
    assert "- Unlabeled subtomograms: 32\n" in card
    # Other unlabeled ones are other data, also where the labeled ones are the same.
    stream, other = learn("without", epochs=1)
    list(stream)
    prints = [
        json.loads(r.environment_path.read_text())[0]["data"] for r in (run, other)
    ]
    assert prints[0] != prints[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ["barrel", "disc", "none"]}, "other classes"),
        (
            {
                "classes": [
                    *["barrel", "disc", "dumbbell", "helix", "ring", "shell"],
                    *["tripod", "none", "ribosome"],
                ]
            },
            "the teacher knows ribosome, the data nothing more",
        ),
        ({"box": 32}, "32 voxels of 14 Å, the data has 24 of 14 Å"),
        ({"voxel_size": 10.0}, "24 voxels of 10 Å, the data has 24 of 14 Å"),
        ({"normalization": Normalization(mode="subtomogram")}, "--normalize"),
    ],
)
def test_a_teacher_that_does_not_fit_is_an_error(learn, untrained, changes, message):
    stream, run = learn(teachers=[untrained(**changes)])
    with pytest.raises(DataError, match=message) as error:
        list(stream)
    assert "\n" not in str(error.value)
    assert not run.path.exists()


def test_errors_that_can_come_at_the_call_do(learn, tmp_path):
    with pytest.raises(ConfigError, match="--teacher"):
        learn(teachers=[])
    with pytest.raises(FileMissingError, match="no such file"):
        learn(teachers=[tmp_path / "nowhere"])
    (tmp_path / "x.pt").write_bytes(b"not safetensors at all")
    with pytest.raises(FormatError, match="not a checkpoint of ectkd"):
        learn(teachers=[tmp_path / "x.pt"])
    with pytest.raises(ConfigError, match="no network"):
        learn(model="vgg")


def test_the_same_seed_gives_the_same_student_also_with_a_break(learn, monkeypatch):
    monkeypatch.setattr(keeping, "SECONDS_BETWEEN_SAVES", 0)
    list(learn("whole")[0])
    cancel = Cancel()
    stream, part = learn("part", cancel=cancel)
    while not isinstance(next(stream), EpochEnd):
        pass
    cancel.request()
    with pytest.raises(CancelledError):
        list(stream)
    stream, _ = learn("part", is_resumed=True)
    assert [e.epoch for e in stream if isinstance(e, EpochEnd)] == [2, 3]
    whole = load_file(part.path.parent / "whole" / "last.safetensors")
    for name, tensor in load_file(part.last_path).items():
        assert torch.equal(tensor, whole[name])


def test_cancel_while_the_teacher_is_asked(learn, phantoms):
    cancel = Cancel()
    cancel.request()
    stream, run = learn(cancel=cancel)
    with pytest.raises(CancelledError):
        list(stream)
    assert not run.best_path.exists()


def test_a_teacher_that_learned_from_all_is_judged_as_it_was_before(
    learn, teacher, tmp_path
):
    other = Run(tmp_path / "teacher")
    shutil.copytree(teacher, other.path)
    # Beside its best weights lies a model that knows nothing.
    blank, info = load_checkpoint(other.best_path)
    for weights in blank.parameters():
        weights.data.zero_()
    save_checkpoint(other.validated_path, blank, info)
    stream, run = learn(
        teachers=[other.path], epochs=1, validation_fraction=0.34, refit=True
    )
    result = list(stream)[-1].result
    assert result["teacher_val_accuracy"] < 0.5
    assert result["comparison"][0]["val_accuracy"] < 0.5
    # What the figures are of has learned nothing from what that model had not seen;
    # the model to use learns from the one that learned from all.
    said = load_file(run.path / lessons.SOFT_LABELS)["logits"]
    assert said.std() == 0
    said = load_file(run.path / lessons.SOFT_LABELS_OF_ALL)["logits"]
    assert said.std() > 0.5
    assert run.validated_path.exists()
    # One that does not learn once more keeps its figures honest too.
    stream, run = learn(
        "once", teachers=[other.path], epochs=1, validation_fraction=0.34, refit=False
    )
    list(stream)
    assert load_file(run.path / lessons.SOFT_LABELS)["logits"].std() == 0
    assert not (run.path / lessons.SOFT_LABELS_OF_ALL).exists()
    # Without a validation part there is nothing to be kept from it.
    stream, run = learn("all", teachers=[other.path], epochs=1, validation_fraction=0)
    list(stream)
    assert load_file(run.path / lessons.SOFT_LABELS)["logits"].std() > 0.5
