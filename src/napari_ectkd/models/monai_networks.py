"""Classifiers of MONAI (Cardoso et al. 2022, arXiv:2211.02701), by name.

They were made for medical images of hundreds of voxels an edge, and have tens of
millions of parameters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def resnet10(n_classes: int, box_px: int) -> nn.Module:
    """Return MONAI's ResNet-10."""
    return _resnet("resnet10", n_classes)


def resnet18(n_classes: int, box_px: int) -> nn.Module:
    """Return MONAI's ResNet-18."""
    return _resnet("resnet18", n_classes)


def resnet50(n_classes: int, box_px: int) -> nn.Module:
    """Return MONAI's ResNet-50."""
    return _resnet("resnet50", n_classes)


def seresnet50(n_classes: int, box_px: int) -> nn.Module:
    """Return MONAI's ResNet-50 with squeeze-and-excitation."""
    from monai.networks.nets.senet import SEResNet50

    return SEResNet50(spatial_dims=3, in_channels=1, num_classes=n_classes)


def densenet121(n_classes: int, box_px: int) -> nn.Module:
    """Return MONAI's DenseNet-121."""
    from monai.networks.nets.densenet import DenseNet121

    return DenseNet121(spatial_dims=3, in_channels=1, out_channels=n_classes)


def efficientnet_b0(n_classes: int, box_px: int) -> nn.Module:
    """Return MONAI's EfficientNet-B0."""
    from monai.networks.nets.efficientnet import EfficientNetBN

    return EfficientNetBN(
        "efficientnet-b0",
        pretrained=False,
        spatial_dims=3,
        in_channels=1,
        num_classes=n_classes,
    )


def _resnet(name: str, n_classes: int) -> nn.Module:
    from monai.networks.nets import resnet

    network: nn.Module = getattr(resnet, name)(
        spatial_dims=3,
        n_input_channels=1,
        conv1_t_size=3,  # subtomograms are small: no wide stem of stride 2
        conv1_t_stride=1,
        num_classes=n_classes,
    )
    return network
