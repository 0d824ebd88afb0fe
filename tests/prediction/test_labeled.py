import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.errors import ConfigError, DataError
from napari_ectkd.events import Cancel
from napari_ectkd.io.stacks import StackInfo, StackWriter
from napari_ectkd.models.checkpoint import Normalization, load_checkpoint
from napari_ectkd.prediction.config import ClassifyConfig
from napari_ectkd.prediction.labeled import score_model

LABELS = ["a", "b", "none", "b", "a", "none", "a", "b", "a"]


@pytest.fixture
def volumes():
    random = np.random.default_rng(1)
    return random.normal(size=(9, 24, 24, 24)).astype(np.float32) * np.linspace(
        0.3, 3, 9
    ).astype(np.float32).reshape(9, 1, 1, 1)


@pytest.fixture
def write_data(tmp_path, volumes):
    def write(name="data", labels=LABELS, **info):
        settings = {"box": 24, "voxel_size": 10.0, "tilt_range": (-60, 60)} | info
        writer = StackWriter(
            tmp_path / name, StackInfo(classes=sorted(set(labels)), **settings)
        )
        writer.write(0, np.stack(volumes), labels)
        writer.finish(1)
        return tmp_path / name

    return write


def score(model, data, **settings):
    texts = []
    stream = score_model(
        model,
        DataConfig(data=[data], **settings),
        ClassifyConfig(device="cpu", precision="float32"),
        cancel=Cancel(),
    )
    while True:
        try:
            event = next(stream)
        except StopIteration as end:
            return end.value, texts
        texts += [event.text] if event.kind == "noted" else []


def test_the_report_is_that_of_scikit_learn(write_model, write_data, volumes):
    path = write_model(normalization=Normalization(mode="subtomogram"))
    report, _ = score(path, write_data())
    model, info = load_checkpoint(path)
    scaled = (volumes - volumes.mean((1, 2, 3), keepdims=True)) / volumes.std(
        (1, 2, 3), keepdims=True
    )
    with torch.no_grad():
        chosen = model(torch.from_numpy(scaled)[:, None]).argmax(dim=1).numpy()
    said = np.array(info.classes)[chosen]
    assert report.accuracy == pytest.approx(accuracy_score(LABELS, said))
    assert report.macro_f1 == pytest.approx(
        f1_score(LABELS, said, labels=["a", "b"], average="macro", zero_division=0)
    )
    labels = report.confusion.labels
    np.testing.assert_array_equal(
        report.confusion.matrix, confusion_matrix(LABELS, said, labels=labels)
    )
    assert labels == ["b", "a", "none"]


def test_data_is_normalized_as_the_model_was_trained(write_model, write_data):
    data = write_data()
    by_data, each = (
        write_model(mode, normalization=Normalization(mode=mode))
        for mode in ("data", "subtomogram")
    )
    assert not score(by_data, data)[1]
    assert not score(each, data)[1]
    _, texts = score(each, data, normalize="data")
    assert any("trained on data normalized by subtomogram" in t for t in texts)


def test_noise_per_particle_is_refused_for_a_model_of_the_other_kind(
    write_model, write_data
):
    with pytest.raises(ConfigError, match="gives the class away"):
        score(write_model(), write_data(noise="per-particle"))


def test_a_class_that_the_model_does_not_know_is_an_error(write_model, write_data):
    data = write_data(labels=["ribosome", *LABELS[1:]])
    with pytest.raises(
        DataError, match="unknown class ribosome: the model knows b, a, none"
    ):
        score(write_model(), data)


def test_classes_that_the_data_lacks_are_no_error(write_model, write_data):
    report, _ = score(write_model(classes=("b", "a", "none", "z")), write_data())
    assert report.classes["z"].support == 0


@pytest.mark.parametrize("info", [{"box": 32}, {"voxel_size": 12.0}])
def test_another_box_or_voxel_size_is_an_error(write_model, write_data, info):
    with pytest.raises(DataError, match="the model takes"):
        score(write_model(**info), write_data())
