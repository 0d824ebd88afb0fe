import numpy as np
import pytest
from sklearn.metrics import accuracy_score, recall_score

from napari_ectkd.errors import DataError
from napari_ectkd.evaluation.agreement import agreement


def test_agreement_is_one_models_accuracy_against_the_other():
    rng = np.random.default_rng(0)
    truth, student, teacher = rng.integers(0, 3, (3, 200))
    found = agreement(student, teacher, truth, ["a", "b", "c", "not there"])
    assert found["share"] == pytest.approx(accuracy_score(teacher, student))
    assert list(found["classes"]) == ["a", "b", "c"]
    for which in ("student", "teacher"):
        said = {"student": student, "teacher": teacher}[which]
        recalls = [of[which] for of in found["classes"].values()]
        np.testing.assert_allclose(recalls, recall_score(truth, said, average=None))
    for index, of in enumerate(found["classes"].values()):
        these = truth == index
        assert of["n"] == these.sum()
        assert of["share"] == accuracy_score(teacher[these], student[these])


def test_a_model_agrees_with_itself_also_where_it_is_wrong():
    found = agreement([0, 1, 1], [0, 1, 1], [1, 1, 0], ["a", "b"])
    assert found["share"] == 1
    assert found["classes"]["a"] == {"n": 1, "share": 1, "student": 0, "teacher": 0}


def test_lengths_must_fit():
    with pytest.raises(DataError, match="2 and 1 predictions of 2 picks"):
        agreement([0, 1], [0], [0, 1], ["a", "b"])
