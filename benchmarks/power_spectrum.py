"""The power spectrum of a simulated tomogram beside that of a real one, as a figure.

    python benchmarks/power_spectrum.py REAL.tif FIGURE.png

REAL.tif is the crop of a tomogram with one microtubule that the cylindra project tests
with (BSD-3-Clause): 36 x 206 x 94 voxels of 10.52 Å, protein bright, tilt axis y. A
microtubule of 13 protofilaments is put where that one lies, and imaged with
`--noise projections`, the tilt range that the real wedge shows and a SIRT-like filter,
as in the history of the real file; nothing else is fitted but the noise level. The
script prints, for both, the power by the angle about the tilt axis.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import tifffile
import torch

from napari_ectkd.simulation.imaging_config import ImagingConfig
from napari_ectkd.simulation.projection_imaging import ProjectionImaging

VOXEL = 10.52  # Å
SHAPE = (120, 320, 320)
TILT_RANGE = (-66.0, 57.0)
STEP = 3.0
SNR = 0.35
"""Variance of the protein in the crop, to that of the noise."""


def microtubule() -> np.ndarray:
    """Return tubulin, as balls on 13 protofilaments, slanted as the real one is."""
    middle = np.array(SHAPE) // 2
    along = np.arange(-1800.0, 1800.0, 40.0)  # Å between monomers
    sin, cos = np.sin(np.radians(-13)), np.cos(np.radians(-13))
    balls = []
    for protofilament in range(13):
        angle = 2 * np.pi * protofilament / 13
        offset = 3 * 40.0 * protofilament / 13  # a helix of three starts
        for place in along:
            z, x = 112 * np.sin(angle), 112 * np.cos(angle)
            y = place + offset
            balls.append((z, y * cos - x * sin, y * sin + x * cos))
    volume = np.zeros(SHAPE, dtype=np.float32)
    reach, sigma = 4, 13.0
    grid = np.stack(np.mgrid[[slice(-reach, reach + 1)] * 3], axis=-1)
    for ball in np.array(balls) / VOXEL + middle:
        nearest = np.round(ball).astype(int)
        low, high = nearest - reach, nearest + reach + 1
        if (low < 0).any() or (high > SHAPE).any():
            continue
        squares = ((grid + nearest - ball) ** 2).sum(axis=-1) * VOXEL**2
        volume[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] += np.exp(
            -squares / (2 * sigma**2)
        )
    return volume


def simulated(shape: tuple[int, int, int]) -> np.ndarray:
    """Return the middle of a simulated tomogram."""
    config = ImagingConfig(
        noise="projections", tilt_range=TILT_RANGE, tilt_step=STEP, sirt_iterations=10
    )
    imaging = ProjectionImaging(config, VOXEL)
    signal = imaging.signal(torch.from_numpy(microtubule())[None])[0].numpy()
    noise = imaging.noise(SHAPE, torch.Generator().manual_seed(0))[0].numpy()
    inside = tuple(
        slice(n // 2 - m // 2, n // 2 - m // 2 + m)
        for n, m in zip(SHAPE, shape, strict=True)
    )
    level = signal[inside].std() / np.sqrt(SNR)
    return signal[inside] + level * noise[inside]


def power(volume: np.ndarray) -> np.ndarray:
    """Return the power `(kz, ky, kx)`, zero frequency in the middle, of variance 1."""
    volume = (volume - volume.mean()) / volume.std()
    for axis, n in enumerate(volume.shape):
        window = np.hanning(n + 2)[1:-1]
        volume = volume * window.reshape([-1 if a == axis else 1 for a in range(3)])
    return np.abs(np.fft.fftshift(np.fft.fftn(volume))) ** 2 / volume.size


def by_angle(spectrum: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return angles about the tilt axis, in degrees, and the mean power there."""
    plane = spectrum.mean(axis=1)
    kz, kx = (np.fft.fftshift(np.fft.fftfreq(n)) for n in plane.shape)
    radius = np.hypot(kz[:, None], kx)
    angle = np.degrees(np.arctan2(kz[:, None], kx))
    angle = (angle + 90) % 180 - 90
    ring = (radius > 0.12) & (radius < 0.35)
    edges = np.arange(-90, 91, 4)
    which = np.digitize(angle[ring], edges) - 1
    n = np.bincount(which, minlength=len(edges) - 1)
    total = np.bincount(which, plane[ring], len(edges) - 1)
    return (edges[:-1] + 2)[n > 0], total[n > 0] / n[n > 0]


def by_frequency(spectrum: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return frequencies in 1/Å, and the mean power in shells within the wedge."""
    grids = np.meshgrid(
        *(np.fft.fftshift(np.fft.fftfreq(n)) for n in spectrum.shape), indexing="ij"
    )
    kz, _, kx = grids
    radius = np.sqrt(sum(g**2 for g in grids))
    seen = np.abs(kz) < np.tan(np.radians(50)) * np.abs(kx)
    shells = np.arange(0.01, 0.5, 0.01)
    means = [
        spectrum[seen & (radius >= low) & (radius < low + 0.01)].mean()
        for low in shells
    ]
    return (shells + 0.005) / VOXEL, np.array(means)


def wedge() -> tuple[float, float]:
    """Return where the wedge begins, in degrees: half a step beyond the last tilts."""
    return TILT_RANGE[0] - STEP / 2, TILT_RANGE[1] + STEP / 2


def draw(real: np.ndarray, ours: np.ndarray, path: Path) -> None:
    """Draw slices, spectra and their profiles."""
    figure = plt.figure(figsize=(13, 10), layout="constrained")
    grid = figure.add_gridspec(3, 4, width_ratios=(0.7, 1.2, 1.1, 1.1))
    spectra = {"real": power(real), "simulated": power(ours)}
    edges = [np.tan(np.radians(tilt)) for tilt in wedge()]
    for row, (name, volume) in enumerate((("real", real), ("simulated", ours))):
        middle = volume.shape[0] // 2
        plane = volume[middle - 2 : middle + 3].mean(axis=0)
        section = volume[:, 90:96].mean(axis=1)
        low, high = np.percentile(plane, (1, 99))
        axes = figure.add_subplot(grid[row, 0])
        axes.imshow(plane, cmap="gray", origin="lower", vmin=low, vmax=high)
        axes.set(title=f"{name}: 5 slices", xlabel="x (voxels)", ylabel="y (voxels)")
        axes = figure.add_subplot(grid[row, 1])
        axes.imshow(section, cmap="gray", origin="lower")
        axes.set(title="6 slices along y", xlabel="x (voxels)", ylabel="z (voxels)")
        for column, (axis, across) in enumerate(((1, "x"), (2, "y")), 2):
            # The same colors for both.
            low, high = np.percentile(
                np.log10(spectra["real"].mean(axis=axis)), (1, 99.8)
            )
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(
                np.log10(spectra[name].mean(axis=axis)),
                origin="lower",
                extent=(-0.5, 0.5, -0.5, 0.5),
                vmin=low,
                vmax=high,
            )
            axes.set(
                title=f"log power, mean along k{'xy'[axis % 2]}",
                xlabel=f"k{across} (1/voxel)",
                ylabel="kz (1/voxel)",
            )
            if across == "x":
                for slope in edges:
                    end = 0.5 / abs(slope)
                    line = [-end, end], [-end * slope, end * slope]
                    axes.plot(*line, "w:", linewidth=1)
    angles = figure.add_subplot(grid[2, :2])
    frequencies = figure.add_subplot(grid[2, 2:])
    for name, spectrum in spectra.items():
        angles.semilogy(*by_angle(spectrum), label=name)
        frequencies.semilogy(*by_frequency(spectrum), label=name)
    for tilt in wedge():
        angles.axvline(tilt, color="gray", linestyle=":")
    angles.set(
        xlabel="angle about the tilt axis (degrees)",
        ylabel="power",
        title="0.12 to 0.35 per voxel",
    )
    frequencies.set(
        xlabel="spatial frequency (1/Å)", ylabel="power", title="within the tilt range"
    )
    for axes in (angles, frequencies):
        axes.legend()
    figure.savefig(path, dpi=90)


def main() -> None:
    """Draw the figure and print the profile it shows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("real", type=Path)
    parser.add_argument("figure", type=Path)
    arguments = parser.parse_args()
    real = tifffile.imread(arguments.real).astype(np.float32)
    ours = simulated(real.shape)
    draw(real, ours, arguments.figure)
    degrees, of_real = by_angle(power(real))
    _, of_ours = by_angle(power(ours))
    print("angle  real  simulated (log10 of the power)")
    for angle, first, last in zip(degrees, of_real, of_ours, strict=True):
        print(f"{angle:5.0f}  {np.log10(first):5.2f}  {np.log10(last):5.2f}")


if __name__ == "__main__":
    main()
