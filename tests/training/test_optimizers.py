import pytest
import torch

from napari_ectkd.models.registry import MODELS
from napari_ectkd.training.optimizers import make_optimizer


def rates(kind, steps):
    model = torch.nn.Linear(1, 1)
    optimizer, schedule = make_optimizer(kind, model, 0.1, 0.5, steps)
    found = []
    for _ in range(steps):
        optimizer.step()
        schedule.step()
        found.append(schedule.get_last_lr()[0])
    return found


def test_adamw_goes_through_one_cycle_up_to_the_highest_rate():
    found = rates("adamw", 100)
    assert max(found) == pytest.approx(0.1, rel=0.01)
    assert found[0] < 0.01
    assert found[-1] < 1e-3


def test_sgd_keeps_its_rate_and_steps_as_nesterov_without_decay():
    assert rates("sgd", 7) == [0.1] * 7
    weight = torch.nn.Parameter(torch.tensor([2.0]))
    model = torch.nn.ParameterList([weight])
    optimizer, _ = make_optimizer("sgd", model, 0.1, 0.5, 2)
    velocity, expected = 0.0, 2.0
    for _ in range(3):
        weight.grad = torch.ones(1)
        optimizer.step()
        velocity = 0.9 * velocity + 1.0
        expected -= 0.1 * (1.0 + 0.9 * velocity)
    # torch takes the first gradient as the first velocity.
    assert weight.item() == pytest.approx(expected)


def test_the_published_recipe_is_that_of_the_paper():
    spec = MODELS["dsrf3d_v2_published"]
    assert (spec.optimizer, spec.learning_rate) == ("sgd", 0.005)
