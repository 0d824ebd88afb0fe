import numpy as np
import pytest
import torch

from napari_ectkd.errors import ConfigError
from napari_ectkd.models import registry
from napari_ectkd.models.checkpoint import (
    CheckpointInfo,
    Normalization,
    load_checkpoint,
    save_checkpoint,
)
from napari_ectkd.models.folding import folded
from napari_ectkd.models.registry import (
    MONAI_MODELS,
    build_model,
    find_model,
    model_names,
)

SMALL = ["monai:densenet121", "monai:efficientnet_b0"]


@pytest.mark.parametrize("name", SMALL)
def test_a_network_of_monai_learns_a_step_and_comes_back_from_its_file(tmp_path, name):
    box = MONAI_MODELS[name].min_box
    model = build_model(name, 3, box).train()
    volumes = torch.randn(2, 1, box, box, box)
    model(volumes).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    info = CheckpointInfo(
        model=name,
        classes=["a", "b", "c"],
        box=box,
        voxel_size=10.0,
        normalization=Normalization(mode="data"),
        trained_by="train",
    )
    save_checkpoint(tmp_path / "m.safetensors", model, info)
    loaded, found = load_checkpoint(tmp_path / "m.safetensors")
    assert found.model == name
    with torch.no_grad():
        expected = model.eval()(volumes).numpy()
        np.testing.assert_allclose(loaded(volumes).numpy(), expected, atol=1e-5)
        np.testing.assert_allclose(folded(loaded)(volumes), expected, atol=1e-3)


def test_all_networks_of_monai_can_be_built_without_memory():
    assert set(MONAI_MODELS) <= set(model_names("teacher"))
    with torch.device("meta"):
        for name in MONAI_MODELS:
            model = build_model(name, 7, 32).eval()
            assert model(torch.empty(1, 1, 32, 32, 32)).shape == (1, 7)


def test_without_monai_its_networks_are_not_offered_and_say_what_to_install(
    monkeypatch,
):
    monkeypatch.setattr(registry, "_is_installed", lambda name: False)
    assert not set(MONAI_MODELS) & set(model_names())
    with pytest.raises(ConfigError, match=r"pip install 'napari-ectkd\[monai\]'"):
        find_model("monai:resnet18")
