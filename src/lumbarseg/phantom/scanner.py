"""The scanner: partial volume of thick slices, then artifacts of coil, sequence and patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy import ndimage

from .spine import Spine, axial_rotation, coronal_rotation, sagittal_rotation

Array = np.ndarray


@dataclass(frozen=True)
class Scanner:
    """Geometry in mm, angles in radians; amplitudes relative to the image's scale of about 0 to 1."""

    slices: int
    thickness: float
    gap: float  # between slices
    tails: float  # fraction of each neighbouring slice in a slice: profiles of 2-D slices are not rectangular
    samples: int  # lateral samples averaged in a slice; odd, so that labels have a majority
    pixel: float
    rows: int  # along anterior
    columns: int  # along up
    corner: tuple[float, float, float]  # first voxel: centre of the first slice, anterior, up
    turn: tuple[float, float, float]  # how the patient lies in the scanner: axial, coronal, sagittal
    blur: tuple[float, float]  # sigma in pixels
    shading: tuple[float, ...]  # back-to-front decay, up-down decay, its centre, exponent, lumps
    band: tuple[float, ...]  # anterior saturation band: start (-1..1), steepness; empty for none
    slice_gain: float
    ghost: tuple[float, ...]  # amplitude, shift in pixels, axis; empty for none
    ringing: float  # fraction of k-space kept along `up`; 1 keeps all
    noise: float
    gamma: float
    fat_shift: tuple[float, float]  # chemical shift of fat, pixels along anterior and up
    opposed: float  # cosine of the phase between fat and water: 1 in phase, -1 opposed


def sample_scanner(rng: Generator, spine: Spine, thin: bool, gradient_echo: bool) -> Scanner:
    """Sample slices, field of view, coils and noise for the scan of one spine.

    thin : nearly isotropic slices
    gradient_echo : fat may be out of phase with water
    """
    u = rng.uniform
    thickness, gap = (u(0.9, 1.5), 0.0) if thin else (u(2.8, 5.2), u(0, 0.2))
    gap *= thickness
    slices = int(np.clip(round(u(45, 105) / (thickness + gap)), 9, 60 if thin else 28))
    pixel = u(0.85, 1.2)
    height, depth = u(170, 310), u(165, 260)
    middle = np.array(spine.bodies[int(np.clip(rng.normal(2.4, 1.8), 0, 5))].centre)  # about L3
    corner = (
        -(slices - 1) / 2 * (thickness + gap) + rng.normal(0, 4),
        middle[1] - depth * u(0.4, 0.75),
        middle[2] - height / 2 + rng.normal(0, 15),
    )
    tilt = rng.normal(0, 0.05, 3)
    return Scanner(
        slices=slices,
        thickness=thickness,
        gap=gap,
        tails=0.0 if thin or gradient_echo else u(0.0, 0.14),
        samples=1 if thin else 3 if thickness < 3.8 else 5,
        pixel=pixel,
        rows=int(depth / pixel),
        columns=int(height / pixel),
        corner=(float(corner[0]), float(corner[1]), float(corner[2])),
        turn=(float(tilt[0]), float(tilt[1]), float(tilt[2])),
        blur=(u(0.25, 0.95), u(0.25, 0.95)),
        shading=(u(0, 1.1), u(0, 0.8), u(-0.5, 0.5), 0.3 if rng.random() < 0.3 else 1.0, u(0, 0.25)),
        band=(u(0.1, 0.8), u(8, 40)) if rng.random() < 0.5 else (),
        slice_gain=u(0.0, 0.05),
        ghost=(u(0.02, 0.08), float(rng.integers(20, 120)), float(rng.integers(2))) if rng.random() < 0.3 else (),
        ringing=u(0.55, 0.9) if rng.random() < 0.25 else 1.0,
        noise=u(0.003, 0.045),
        gamma=u(0.7, 1.4) if rng.random() < 0.3 else 1.0,
        fat_shift=(u(-1.6, 1.6), 0.0) if rng.random() < 0.5 else (0.0, u(-1.6, 1.6)),
        opposed=u(-1, 1) if gradient_echo and rng.random() < 0.6 else 1.0,
    )


def sample_positions(scanner: Scanner) -> tuple[Array, Array, Array]:
    """Return x, y, z of the canvas samples in mm; x has `samples` positions in each slice, none in the gaps."""
    x0, y0, z0 = scanner.corner
    inside = ((np.arange(scanner.samples) + 0.5) / scanner.samples - 0.5) * scanner.thickness
    starts = x0 + np.arange(scanner.slices) * (scanner.thickness + scanner.gap)
    x = (starts[:, None] + inside[None]).ravel()
    return x, y0 + np.arange(scanner.rows) * scanner.pixel, z0 + np.arange(scanner.columns) * scanner.pixel


def slice_affine(scanner: Scanner) -> Array:
    """Return the (4, 4) affine of the acquired slices, voxel to RAS+ mm, in the turned patient."""
    matrix = np.diag([scanner.thickness + scanner.gap, scanner.pixel, scanner.pixel, 1.0])
    matrix[:3, 3] = scanner.corner
    turn = np.eye(4)
    turn[:3, :3] = (
        axial_rotation(scanner.turn[0]) @ coronal_rotation(scanner.turn[1]) @ sagittal_rotation(scanner.turn[2])
    )
    return turn @ matrix


def average_slices(samples: Array, scanner: Scanner) -> Array:
    """Average (X, Y, Z) samples over the slice profiles; return (slices, Y, Z) float32."""
    shape = (scanner.slices, scanner.samples, *samples.shape[1:])
    slices = samples.reshape(shape).mean(axis=1, dtype=np.float32)
    if not scanner.tails:
        return slices
    beside = np.concatenate([slices[:1], slices[:-1]]) + np.concatenate([slices[1:], slices[-1:]])
    return slices + np.float32(scanner.tails) * (beside - 2 * slices)


def majority_labels(labels: Array, scanner: Scanner) -> Array:
    """Return the label that fills most of each voxel, (slices, Y, Z) from (X, Y, Z) uint8."""
    order = sorted(range(scanner.samples), key=lambda k: k != scanner.samples // 2)  # the middle sample wins a draw
    parts = labels.reshape(scanner.slices, scanner.samples, *labels.shape[1:])[:, order]
    votes = sum((parts == parts[:, [k]]).astype(np.uint8) for k in range(scanner.samples))
    return np.take_along_axis(parts, np.argmax(votes, axis=1)[:, None], axis=1)[:, 0]


def simulate_acquisition(water: Array, fat: Array, scanner: Scanner, rng: Generator) -> Array:
    """Simulate the image from the signals of water and fat, (slices, Y, Z) float32, about 0 to 1."""
    if any(scanner.fat_shift):
        fat = ndimage.shift(fat, (0, *scanner.fat_shift), order=1, mode="nearest")
    image = np.sqrt(np.maximum(water**2 + fat**2 + 2 * water * fat * scanner.opposed, 0))
    image = ndimage.gaussian_filter(image, (0, *scanner.blur), truncate=3)
    if scanner.ringing < 1:
        image = _truncate_kspace(image, scanner.ringing)
    image = image * _coil_sensitivity(image.shape[1:], scanner, rng)
    image = image * rng.normal(1, scanner.slice_gain, (len(image), 1, 1))
    if scanner.ghost:
        amplitude, shift, axis = scanner.ghost
        image = image + amplitude * np.roll(image, int(shift), axis=1 + int(axis))
    first, second = rng.standard_normal((2, *image.shape), dtype=np.float32) * np.float32(scanner.noise)
    image = np.sqrt((image + first) ** 2 + second**2)  # Rician noise
    return (image**scanner.gamma).astype(np.float32)


def _truncate_kspace(image: Array, kept_fraction: float) -> Array:
    """Return the image without the outer part of k-space along `up`, which gives ringing at edges."""
    spectrum = np.fft.rfft(image, axis=2)
    spectrum[..., int(spectrum.shape[2] * kept_fraction) :] = 0
    return np.abs(np.fft.irfft(spectrum, n=image.shape[2], axis=2)).astype(np.float32)


def _coil_sensitivity(shape: tuple[int, ...], scanner: Scanner, rng: Generator) -> Array:
    """Return the sensitivity of a posterior surface coil, with the anterior saturation band, (Y, Z) float32."""
    posterior_decay, spread, centre, exponent, lumps = scanner.shading
    y, z = np.meshgrid(np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij")
    field = (np.exp(-posterior_decay * (y + 1) / 1.2) * np.exp(-spread * (z - centre) ** 2)) ** exponent
    coarse = rng.normal(0, lumps, (4, 4))
    field *= np.exp(ndimage.zoom(coarse, (shape[0] / 4, shape[1] / 4), order=3)[: shape[0], : shape[1]])
    if scanner.band:
        start, steep = scanner.band
        field *= 0.9 / (1 + np.exp((y - start) * steep)) + 0.1
    return field.astype(np.float32)
