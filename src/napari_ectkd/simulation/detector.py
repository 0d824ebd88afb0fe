"""What the detector does to contrast."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def modulation(frequency_px: torch.Tensor, at_nyquist: float) -> torch.Tensor:
    """Return the modulation transfer function (MTF), a Gaussian.

    MTF(f) = m^((2 f)²), where m is the share of the contrast that is left at the
    Nyquist frequency, f = 1/2. It weakens what the electrons show (signal and the
    structure of the ice) and not the shot noise, which counting makes white: so the
    detective quantum efficiency falls as MTF², as RELION too takes it to.

    Parameters
    ----------
    frequency_px
        Per pixel.
    at_nyquist
        m, above 0 and up to 1.
    """
    transferred: torch.Tensor = at_nyquist ** ((2 * frequency_px) ** 2)
    return transferred
