"""What tests with a real window share."""

import pytest
import torch

from napari_ectkd.models.checkpoint import (
    CheckpointInfo,
    Normalization,
    save_checkpoint,
)
from napari_ectkd.models.registry import build_model


@pytest.fixture
def write_model(tmp_path):
    """Write a checkpoint of random weights, which say something of every place."""

    def write(name):
        torch.manual_seed(0)
        model = build_model(name, 3, 24)
        if name == "compact":
            with torch.no_grad():
                model.head.weight *= 20
                model.head.bias.copy_(torch.tensor([0.5, 0.5, 0.0]))
        info = CheckpointInfo(
            model=name,
            classes=["ring", "shell", "none"],
            diameters={"ring": 60.0, "shell": 60.0},
            box=24,
            voxel_size=10.0,
            normalization=Normalization(mode="data"),
            trained_by="distill",
        )
        path = tmp_path / f"{name}.safetensors"
        save_checkpoint(path, model, info)
        return path

    return write
