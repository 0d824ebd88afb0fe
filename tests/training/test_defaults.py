import pytest
import torch

from napari_ectkd.models.registry import build_model
from napari_ectkd.training.defaults import (
    activation_bytes,
    default_batch_size,
    steps_per_epoch,
)


@pytest.mark.parametrize("name", ["compact", "residual_small", "dsrf3d_v2"])
def test_the_memory_of_a_subtomogram_is_about_what_autograd_keeps(name):
    """By autograd itself: what a real forward pass saves for going back."""
    model = build_model(name, 2, 24)
    weights = {p.data_ptr() for p in model.parameters()}
    kept = {}

    def keep(tensor):
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(torch.randn(2, 1, 24, 24, 24)).sum()
    saved = sum(kept.values()) / 2
    assert loss.requires_grad
    # What is kept, gradients, and some room: between once and six times as much.
    assert saved < activation_bytes(name, 24) < 6 * saved


def test_the_batch_follows_the_memory():
    gib = 2**30
    assert default_batch_size("residual_small", 32, None) == 50
    assert default_batch_size("residual_small", 32, 16 * gib) == 50
    small = default_batch_size("residual", 96, 10 * gib)
    assert 4 <= small < 50
    assert default_batch_size("residual", 96, 20 * gib) > small
    assert default_batch_size("dsrf3d_v2", 128, gib // 4) == 4
    assert steps_per_epoch(101, 50) == 2
    assert steps_per_epoch(3, 50) == 1
