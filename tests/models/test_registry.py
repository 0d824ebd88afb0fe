from importlib import import_module

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.utils.flop_counter import FlopCounterMode

from napari_ectkd.errors import ConfigError
from napari_ectkd.models import cost
from napari_ectkd.models.cost import count_macs, count_parameters, time_models
from napari_ectkd.models.registry import (
    MODELS,
    build_model,
    find_model,
    model_names,
)
from napari_ectkd.models.sweepable import Sweepable

# Of the paper's networks: parameters and multiply-accumulates at box 40, 23 classes.
PUBLISHED = {
    "dsrf3d_v2": (18.32e6, 3833e6),
    "student1": (1.01e6, 2232e6),
    "student2": (0.51e6, 2204e6),
    "student3": (0.16e6, 565e6),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_papers_networks_have_their_size_and_cost(name):
    parameters, macs = PUBLISHED[name]
    assert count_parameters(build_model(name, 23, 40)) == pytest.approx(
        parameters, abs=5e3
    )
    assert count_macs(name, 23, 40) == pytest.approx(macs, abs=0.6e6)


@pytest.mark.parametrize("name", MODELS)
def test_macs_are_those_that_torch_counts(name):
    box = max(MODELS[name].min_box, 32)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        build_model(name, 5, box).eval()(torch.empty(1, 1, box, box, box))
    assert count_macs(name, 5, box) == counter.get_total_flops() // 2


def macs_of_convolutions(layers, box):
    """By hand: 27 times the channels for each voxel that a convolution puts out."""
    total = 0
    for n_in, n_out, stride, padding in layers:
        box = (box + 2 * padding - 3) // stride + 1
        total += 27 * n_in * n_out * box**3
    return total, box


def test_macs_of_our_networks_agree_with_counting_by_hand():
    layers = [(1, 8, 2, 0), (8, 16, 2, 0), (16, 32, 1, 0), (32, 32, 1, 0)]
    macs, edge = macs_of_convolutions(layers, 32)
    assert edge == 3
    # The last convolution makes one of the 3³ samples that are left.
    assert count_macs("compact", 10, 32) == macs + 27 * 32 * 32 + 32 * 10
    stem = [(1, 16, 2, 1), (16, 32, 2, 1), (32, 32, 1, 1), (32, 32, 1, 1)]
    deep = [(32, 64, 2, 1), (64, 64, 1, 1), (64, 64, 1, 1)]
    macs, edge = macs_of_convolutions(stem + deep, 32)
    assert edge == 4
    assert count_macs("residual_small", 10, 32) == macs + 64 * 10


@pytest.mark.parametrize("name", MODELS)
def test_every_network_works_from_its_smallest_box_on(name):
    smallest = MODELS[name].min_box
    for box in (smallest, smallest + 1):
        model = build_model(name, 3, box).eval()
        with torch.no_grad():
            assert model(torch.randn(2, 1, box, box, box)).shape == (2, 3)
    with pytest.raises(ConfigError, match=f"at least {smallest} voxels") as error:
        build_model(name, 3, smallest - 1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", MODELS)
def test_no_network_refuses_a_box_that_it_can_take(name):
    spec = MODELS[name]
    if spec.min_box == 8:
        return  # no data set has a smaller box
    module, function = spec.builder
    box = spec.min_box - 1
    volumes = torch.randn(2, 1, box, box, box)
    try:
        shape = getattr(import_module(module), function)(3, box)(volumes).shape
    except (RuntimeError, ZeroDivisionError, ValueError, UserWarning):
        return  # torch warns of a layer without weights
    pytest.fail(f"{name} takes a box of {box} and gives {tuple(shape)}")


def test_one_step_of_training_at_the_smallest_box_with_the_smallest_batch():
    for spec in MODELS.values():
        model = build_model(spec.name, 2, spec.min_box).train()
        logits = model(torch.randn(2, 1, *(spec.min_box,) * 3))
        logits.sum().backward()
        assert all(p.grad is not None for p in model.parameters())


def test_unknown_names_and_too_few_classes_are_errors():
    with pytest.raises(ConfigError, match="no network called 'vgg'; there are dsrf3d"):
        find_model("vgg")
    with pytest.raises(ConfigError, match="at least two"):
        build_model("compact", 1, 32)
    with pytest.raises(ConfigError, match="not 12; take a larger box"):
        build_model("student1", 4, 12)
    with pytest.raises(ConfigError, match="not 24; take compact_nano or compact or"):
        build_model("student1", 4, 24)


def test_names_by_kind():
    ours = {"compact_nano", "compact", "compact_wide"}
    students = {"student1", "student2", "student3", *ours}
    assert set(model_names("student")) == students
    assert set(model_names("teacher")) == set(model_names()) - students


@pytest.mark.parametrize("name", MODELS)
def test_the_registry_knows_what_can_be_swept(name):
    model = build_model(name, 2, 32)
    assert isinstance(model, Sweepable) is MODELS[name].is_sweepable


def with_random_statistics(model, seed=0):
    """Batch normalization as after training: every mean and variance another."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            for tensor, low in (
                (module.running_mean, -0.3),
                (module.running_var, 0.5),
                (module.weight.data, 0.5),
                (module.bias.data, -0.3),
            ):
                tensor.copy_(low + torch.rand(tensor.shape, generator=generator))
    return model.eval()


@pytest.mark.parametrize("box", [23, 24, 28, 32, 33, 40])
def test_the_compact_student_swept_over_a_volume_scores_as_on_crops(box):
    torch.manual_seed(0)
    model = with_random_statistics(build_model("compact", 5, box))
    volume = torch.randn(1, 1, box + 14, box + 5, box + 10)
    shape = np.array(volume.shape[2:])
    with torch.no_grad():
        swept = model.score(volume)[0]
        crops, expected = [], []
        for output in np.ndindex(*swept.shape[1:]):
            corner = 4 * np.array(output) + model.window_px // 2 - box // 2
            if (corner < 0).any() or (corner + box > shape).any():
                continue  # its window fits, a whole box around it does not
            z, y, x = (slice(int(c), int(c) + box) for c in corner)
            crops.append(volume[:, :, z, y, x])
            expected.append(swept[(slice(None), *output)])
        logits = model(torch.cat(crops))
    assert len(crops) >= 3 * 1 * 2
    torch.testing.assert_close(logits, torch.stack(expected), atol=1e-5, rtol=1e-5)
    assert logits.std(dim=0).max() > 1e-3  # crops differ, so that the check can fail


@pytest.mark.parametrize("box", [23, 24, 28, 30, 33, 40, 41, 64, 96])
def test_the_compact_students_window_is_centered_on_the_box(box):
    model = with_random_statistics(build_model("compact", 2, box))
    volume = torch.randn(1, 1, box, box, box, requires_grad=True)
    model(volume)[0, 0].backward()
    seen = np.flatnonzero((volume.grad[0, 0] != 0).any(dim=2).any(dim=1).numpy())
    assert seen[-1] - seen[0] + 1 == model.window_px
    assert seen[0] + seen[-1] == 2 * (box // 2)


def test_the_compact_student_sees_nothing_outside_its_window():
    model = with_random_statistics(build_model("compact", 2, 23))
    volume = torch.randn(1, 1, 23, 23, 23, requires_grad=True)
    model(volume)[0, 0].backward()
    seen = volume.grad[0, 0].abs().numpy() > 0
    assert seen.any(axis=(1, 2)).all()
    # And at its heart nothing is skipped.
    inside = ndimage.binary_erosion(np.ones((23,) * 3), iterations=4)
    assert seen[inside].mean() > 0.9


def test_networks_that_do_not_fit_are_timed_with_fewer_subtomograms(monkeypatch):
    asked = []

    def timed(call, _):
        n = len(call())
        asked.append(n)
        if n > 2:
            raise RuntimeError("CUDA error: out of memory")
        return float(n)

    monkeypatch.setattr(cost, "_timed", timed)
    model = build_model("compact", 3, 32)
    found = time_models([model], 32, torch.device("cpu"), batch_size=8, rounds=1)
    assert asked == [8, 4, 2, 2, 2]
    assert found == [1000.0]


def test_times_are_medians_of_each_network_in_turn(monkeypatch):
    models = [build_model(name, 3, 32) for name in ("compact", "student3")]
    seconds = {models[0]: [90, 90, 1, 2, 30], models[1]: [90, 90, 4, 6, 5]}
    asked = []

    def timed(call, _):
        assert call().shape == (2, 3)
        asked.append(call.func)
        return seconds[call.func][asked.count(call.func) - 1]

    monkeypatch.setattr(cost, "_timed", timed)
    found = time_models(models, 32, torch.device("cpu"), batch_size=2, rounds=3)
    assert found == [1000 * 2 / 2, 1000 * 5 / 2]  # after two rounds that warm up
    assert asked == 5 * models
