"""The built-in data set: scikit-learn's 8 x 8 digits, described by six views.

Each view is computed from one image at a time, so nothing is fitted on rows and nothing can leak.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.fft import dctn
from sklearn.datasets import load_digits

from rcml_misa.views import MultiView

__all__ = ["digit_views", "load_digits_views"]

SOURCE = "scikit-learn's bundled digits"
INK = (4.0, 8.0, 12.0)  # grey levels, of 0 to 16, from which a pixel counts as ink

Array = NDArray[np.float64]


def load_digits_views() -> tuple[MultiView, NDArray[np.int64], tuple[str, ...], str]:
    """Build the views of 1797 rows, codes and classes, and the sha256 of images and labels.

    The hash is that of images, then labels, as bytes; it does not depend on rounding in the views.
    """
    bunch = load_digits()
    images = np.asarray(bunch.images, dtype=np.float64)
    target = np.asarray(bunch.target, dtype=np.int64)
    content = images.astype(np.uint8).tobytes() + target.astype(np.uint8).tobytes()
    classes = tuple(str(label) for label in bunch.target_names)
    return MultiView(digit_views(images)), target, classes, hashlib.sha256(content).hexdigest()


def digit_views(images: Array) -> dict[str, Array]:
    """Describe images (n, 8, 8), of grey levels 0 (paper) to 16 (ink), by six tables of n rows.

    - pixels (64): the grey levels, row by row.
    - fourier (34): magnitudes of the two-dimensional Fourier transform, each of the frequencies
      that a real image has once; they do not change when the digit is shifted around the edges.
    - projections (78): sums along rows (8), columns (8) and both diagonals (15 + 15), and
      how far the first ink lies from the left, right, top and bottom edge (4 x 8).
    - moments (22): mass, centre of gravity (2), scale-free central moments of orders 2 to 4 (12)
      and the signed logarithms of Hu's seven invariants.
    - dct (36): coefficients of the cosine transform whose frequencies add up to at most 7.
    - morphology (30): for ink at grey levels 4, 8 and 12, the area, connected parts, holes, area of
      the holes, perimeter, runs along rows, runs along columns, height, width and the area left by
      an erosion.

    References
    ----------
    Hu, Visual pattern recognition by moment invariants, IRE Transactions on Information Theory,
    1962 (the seven invariants, equations 57 to 63).

    Examples
    --------
    >>> {name: view.shape[1] for name, view in digit_views(np.ones((1, 8, 8))).items()}
    {'pixels': 64, 'fourier': 34, 'projections': 78, 'moments': 22, 'dct': 36, 'morphology': 30}
    """
    return {
        "pixels": images.reshape(len(images), -1),
        "fourier": _fourier(images),
        "projections": _projections(images),
        "moments": _moments(images),
        "dct": _dct(images),
        "morphology": np.concatenate([_morphology(images >= level) for level in INK], axis=1),
    }


def _fourier(images: Array) -> Array:
    magnitudes = np.abs(np.fft.rfft2(images))  # (n, 8, 5)
    inner = magnitudes[:, :, 1:4].reshape(len(images), -1)
    # the first and last column mirror themselves: frequency -f has the magnitude of f
    outer = magnitudes[:, :5, [0, 4]].reshape(len(images), -1)
    return np.concatenate([inner, outer], axis=1)


def _projections(images: Array) -> Array:
    flipped = images[:, :, ::-1]
    diagonals = [
        np.trace(turned, offset=offset, axis1=1, axis2=2)
        for turned in (images, flipped)
        for offset in range(-7, 8)
    ]
    ink = images >= INK[1]
    edges = [
        _depth(side)
        for turned in (ink, ink.transpose(0, 2, 1))
        for side in (turned, turned[:, :, ::-1])
    ]
    sums = [images.sum(axis=2), images.sum(axis=1), np.stack(diagonals, axis=1)]
    return np.concatenate([*sums, *edges], axis=1)


def _depth(ink: NDArray[np.bool_]) -> Array:
    """Count the pixels before the first ink of each row; all 8 where there is none."""
    depth: Array = np.where(ink.any(axis=2), ink.argmax(axis=2), ink.shape[2]).astype(np.float64)
    return depth


def _moments(images: Array) -> Array:
    mass = np.maximum(images.sum(axis=(1, 2)), 1e-12)
    axis = np.arange(8.0)
    centre_y = np.einsum("nij,i->n", images, axis) / mass
    centre_x = np.einsum("nij,j->n", images, axis) / mass
    powers_y = (axis - centre_y[:, None])[..., None] ** np.arange(5)  # (n, 8, 5)
    powers_x = (axis - centre_x[:, None])[..., None] ** np.arange(5)
    central = np.einsum("nij,nip,njq->npq", images, powers_y, powers_x)
    # eta_pq = mu_pq / m^(1 + (p + q) / 2): the same at every size
    orders = np.add.outer(np.arange(5), np.arange(5))
    eta = central / mass[:, None, None] ** (1 + orders / 2)
    second_to_fourth = (orders >= 2) & (orders <= 4)
    # the invariants span many powers of ten; arcsinh is a logarithm that keeps sign and zero
    hu = np.arcsinh(_hu(eta) * 1e6)
    centre = np.stack([mass, centre_y, centre_x], axis=1)
    return np.concatenate([centre, eta[:, second_to_fourth], hu], axis=1)


def _hu(eta: Array) -> Array:
    """Compute Hu's seven rotation invariants (n, 7) from normalised moments (n, 5, 5)."""
    e20, e02, e11 = eta[:, 2, 0], eta[:, 0, 2], eta[:, 1, 1]
    e30, e03, e21, e12 = eta[:, 3, 0], eta[:, 0, 3], eta[:, 2, 1], eta[:, 1, 2]
    a, b = e30 + e12, e21 + e03
    c, d = e30 - 3 * e12, 3 * e21 - e03
    e, f = a * (a**2 - 3 * b**2), b * (3 * a**2 - b**2)
    spread = e20 - e02
    invariants = [
        e20 + e02,
        spread**2 + 4 * e11**2,
        c**2 + d**2,
        a**2 + b**2,
        c * e + d * f,
        spread * (a**2 - b**2) + 4 * e11 * a * b,
        d * e - c * f,
    ]
    return np.stack(invariants, axis=1)


def _dct(images: Array) -> Array:
    low = np.add.outer(np.arange(8), np.arange(8)) <= 7
    coefficients: Array = dctn(images, axes=(1, 2), norm="ortho")
    return np.asarray(coefficients[:, low], dtype=np.float64)


def _morphology(ink: NDArray[np.bool_]) -> Array:
    """Count ten things of each black-and-white image: (n, 10)."""
    framed = np.pad(ink, ((0, 0), (1, 1), (1, 1)))
    plane = np.ones((3, 3), dtype=bool)
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=bool)
    parts = _components(framed, plane)
    # paper touches itself along edges only, so that a diagonal stroke closes a hole
    paper = ~framed
    holes = _components(paper, cross) - 1
    filled = ndimage.binary_fill_holes(framed, structure=_in_plane(cross))
    hole_area = (filled & paper).sum(axis=(1, 2))
    runs_x, runs_y = (np.diff(framed, axis=axis).sum(axis=(1, 2)) for axis in (2, 1))
    eroded = ndimage.binary_erosion(framed, structure=_in_plane(cross))
    counts = [
        ink.sum(axis=(1, 2)),
        parts,
        holes,
        hole_area,
        runs_x + runs_y,
        runs_x // 2,
        runs_y // 2,
        ink.any(axis=2).sum(axis=1),
        ink.any(axis=1).sum(axis=1),
        eroded.sum(axis=(1, 2)),
    ]
    return np.stack(counts, axis=1).astype(np.float64)


def _in_plane(structure: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep neighbours within an image of a stack, none in the images before and after it."""
    return np.pad(structure[None], ((1, 1), (0, 0), (0, 0)))


def _components(mask: NDArray[np.bool_], structure: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count the connected parts of each image of a stack (n, height, width)."""
    labels, count = ndimage.label(mask, structure=_in_plane(structure))
    owner = np.zeros(count + 1, dtype=np.int64)
    image = np.broadcast_to(np.arange(len(mask))[:, None, None], mask.shape)
    owner[labels.ravel()] = image.ravel()
    return np.bincount(owner[1:], minlength=len(mask)).astype(np.int64)
