from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import rel_entr, softmax

from napari_ectkd.distillation.config import DistillConfig
from napari_ectkd.distillation.losses import (
    logit_loss,
    soft_target_loss,
)
from napari_ectkd.distillation.objective import SoftLabels
from napari_ectkd.distillation.soft_labels import KeptOpinion
from napari_ectkd.training.objective import Batch, HardLabels

logits = arrays(np.float64, (5, 4), elements=st.floats(-8, 8, width=32))
shifts = arrays(np.float64, (5, 1), elements=st.floats(-20, 20, width=32))
temperatures = st.floats(1, 20)


def t(array):
    return torch.from_numpy(np.asarray(array))


def soft(student, teacher, temperature):
    return float(soft_target_loss(t(student), t(teacher), temperature))


@given(logits, logits, temperatures)
def test_it_is_the_divergence_of_softened_classes(student, teacher, temperature):
    p = softmax(teacher / temperature, axis=1)
    q = softmax(student / temperature, axis=1)
    expected = temperature**2 * rel_entr(p, q).sum(axis=1).mean()
    assert soft(student, teacher, temperature) == pytest.approx(
        expected, rel=1e-6, abs=1e-9
    )


@given(logits, shifts, temperatures)
def test_it_is_zero_at_equal_logits_up_to_a_constant(same, shift, temperature):
    assert soft(same + shift, same, temperature) == pytest.approx(0, abs=1e-9)
    assert float(logit_loss(t(same + shift), t(same))) == pytest.approx(0, abs=1e-9)


@given(logits, logits, shifts, shifts, temperatures)
def test_it_is_blind_to_constant_shifts(student, teacher, one, other, temperature):
    assert soft(student + one, teacher + other, temperature) == pytest.approx(
        soft(student, teacher, temperature), rel=1e-6, abs=1e-8
    )
    assert float(logit_loss(t(student + one), t(teacher + other))) == pytest.approx(
        float(logit_loss(t(student), t(teacher))), rel=1e-6, abs=1e-8
    )


@given(logits, logits)
def test_when_hot_it_tends_to_the_distance_of_centered_logits(student, teacher):
    centered = [a - a.mean(axis=1, keepdims=True) for a in (student, teacher)]
    distance = ((centered[0] - centered[1]) ** 2).sum(axis=1).mean()
    hot = soft(student, teacher, 1e4)
    assert hot == pytest.approx(distance / (2 * 4), rel=2e-3, abs=1e-4)
    # Which is half the variant of the paper's authors.
    assert hot == pytest.approx(
        float(logit_loss(t(student), t(teacher))) / 2, rel=2e-3, abs=1e-4
    )


def test_no_gradient_reaches_the_teacher():
    random = torch.Generator().manual_seed(0)
    student, teacher = (
        torch.randn(3, 4, generator=random).requires_grad_() for _ in range(2)
    )
    (soft_target_loss(student, teacher, 3.0) + logit_loss(student, teacher)).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


def test_gradients_keep_their_size_when_hot():
    student, teacher = (
        torch.zeros(1, 3, requires_grad=True),
        torch.tensor([[0.3, 0, 0]]),
    )
    sizes = []
    for temperature in (1.0, 10.0):
        [gradient] = torch.autograd.grad(
            soft_target_loss(student, teacher, temperature), student
        )
        sizes.append(float(gradient.norm()))
    assert sizes[1] == pytest.approx(sizes[0], rel=0.2)


def test_other_shapes_are_an_error():
    for loss in (partial(soft_target_loss, temperature=2), logit_loss):
        with pytest.raises(ValueError, match="shape"):
            loss(torch.zeros(2, 3), torch.zeros(2, 4))


@pytest.mark.parametrize("kind", ["soft", "logits"])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_objective_mixes_teacher_and_labels(kind, weight):
    random = torch.Generator().manual_seed(0)
    student = torch.randn(3, 4, generator=random)
    opinions = torch.randn(9, 4, generator=random)
    index = torch.tensor([7, 0, 4])
    targets = torch.tensor([1, 3, 0])
    batch = Batch(torch.zeros(3, 1, 2, 2, 2), targets, index)
    hard = HardLabels(0.1)
    config = DistillConfig(objective=kind, temperature=2.5, soft_weight=weight)
    objective = SoftLabels(KeptOpinion(opinions), config, hard)
    terms = objective(lambda _: student, batch)
    teacher = opinions[index]  # of these subtomograms, in this order
    wanted = {
        "soft": soft_target_loss(student, teacher, 2.5),
        "logits": logit_loss(student, teacher),
    }[kind]
    by_labels = hard(lambda _: student, batch).loss
    torch.testing.assert_close(terms.loss, weight * wanted + (1 - weight) * by_labels)
    torch.testing.assert_close(terms.parts["soft"], wanted)
    torch.testing.assert_close(terms.parts["hard"], by_labels)


def test_a_sharpened_teacher_is_followed_nearly_to_its_class():
    teacher = torch.tensor([[1.0, 0.4, 0.0], [0.0, 0.2, 1.0]])
    batch = Batch(torch.zeros(2, 1, 2, 2, 2), torch.tensor([0, 2]), torch.arange(2))
    config = DistillConfig(sharpen=40, soft_weight=1)
    objective = SoftLabels(KeptOpinion(teacher), config, HardLabels())
    student = torch.randn(2, 3, generator=torch.Generator().manual_seed(1))
    hard = torch.nn.functional.cross_entropy(student, torch.tensor([0, 2]))
    torch.testing.assert_close(objective(lambda _: student, batch).loss, hard)
    same = SoftLabels(KeptOpinion(teacher), DistillConfig(soft_weight=1), HardLabels())
    assert float(same(lambda _: teacher, batch).loss) == pytest.approx(0, abs=1e-6)
