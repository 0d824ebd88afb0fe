"""A slice of a subtomogram as a picture for a label, and its class as a caption."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QLabel, QSizePolicy

if TYPE_CHECKING:
    from numpy.typing import NDArray


def slice_picture(
    gray: NDArray[np.float32], low: float, high: float, edge_px: int
) -> QPixmap:
    """Return a slice as a picture, its first axis downward, protein bright.

    Parameters
    ----------
    gray
        `(rows, columns)`.
    low, high
        Gray values that become black and white.
    edge_px
        Edge of the picture on the screen; the slice keeps its proportions.
    """
    scaled = np.clip((gray - low) / max(high - low, 1e-6), 0, 1)
    pixels = np.ascontiguousarray(255 * scaled, dtype=np.uint8)
    height, width = pixels.shape
    image = QImage(
        pixels.tobytes(), width, height, width, QImage.Format.Format_Grayscale8
    )
    return QPixmap.fromImage(image.copy()).scaled(
        edge_px,
        edge_px,
        Qt.AspectRatioMode.KeepAspectRatio,
        Qt.TransformationMode.FastTransformation,
    )


def class_caption(name: str, color: str, height_px: int) -> QLabel:
    """Return a class name in its color; a long one is cut, the dock being narrow."""
    caption = QLabel(name)
    caption.setStyleSheet(f"color: {color}; font-size: {height_px}px")
    caption.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    caption.setToolTip(name)  # here it is whole
    return caption
