import pytest
import torch

from napari_ectkd.models.narrow import has_narrow_convolution
from napari_ectkd.models.registry import build_model


@pytest.mark.parametrize(
    ("name", "box", "is_narrow"),
    [
        ("residual_small", 16, True),  # 16 → 8 → 4 → 2, and blocks of 3³ there
        ("residual_small", 24, False),
        ("residual", 16, True),
        ("compact", 23, False),  # 23 → 11 → 5 → 3 → 1, without padding
        ("dsrf3d_v2", 16, False),  # its last block sees 4
        ("dsrf3d_v2", 8, True),
    ],
)
def test_narrow_volumes_are_found(name, box, is_narrow):
    model = build_model(name, 3, box)
    assert has_narrow_convolution(model, box) is is_narrow
    assert model.training


def test_the_network_is_left_as_it_was():
    model = build_model("residual_small", 3, 16)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    has_narrow_convolution(model, 16)
    assert not any(module._forward_pre_hooks for module in model.modules())
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
