import pytest
import torch
from torch import nn

from napari_ectkd.models.blocks import WindowMean
from napari_ectkd.models.folding import folded
from napari_ectkd.models.registry import MODELS, build_model


def with_random_statistics(model):
    """A model whose batch normalizations do something."""
    generator = torch.Generator().manual_seed(5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            for tensor in (module.weight, module.bias, module.running_mean):
                tensor.data = torch.randn(tensor.shape, generator=generator)
            module.running_var = 0.2 + torch.rand(
                module.running_var.shape, generator=generator
            )
    return model.eval()


@pytest.mark.parametrize("name", [n for n, s in MODELS.items() if s.min_box <= 27])
def test_folding_changes_nothing_but_the_layers(name):
    model = with_random_statistics(build_model(name, 3, 27))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    volumes = torch.randn(2, 1, 27, 27, 27, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(volumes)
        found = folded(model)(volumes)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_no_batch_normalization_of_the_compact_student_is_left():
    model = with_random_statistics(build_model("compact", 3, 27))
    assert any(isinstance(m, nn.BatchNorm3d) for m in model.modules())
    assert not any(isinstance(m, nn.BatchNorm3d) for m in folded(model).modules())


def test_a_training_model_stays_in_training():
    model = build_model("compact", 3, 27).train()
    assert not folded(model).training
    assert model.training


def test_the_window_mean_is_that_of_average_pooling():
    volumes = torch.randn(2, 3, 9, 11, 8)
    expected = nn.AvgPool3d(4, stride=1)(volumes)
    torch.testing.assert_close(WindowMean(4)(volumes), expected)
