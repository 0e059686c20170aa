"""The built-in digits: each view against a plain oracle, row by row."""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage
from scipy.fft import dct
from sklearn.datasets import load_digits

from rcml_misa.datasets import find_entry, load_dataset
from rcml_misa.datasets.digits import INK, digit_views

CROSS = ndimage.generate_binary_structure(2, 1)
FULL = np.ones((3, 3))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return load_digits().images


@pytest.fixture(scope="module")
def views(images) -> dict[str, np.ndarray]:
    return digit_views(images)


def test_facts_agree_with_the_catalogue() -> None:
    entry, data = find_entry("digits"), load_dataset("digits", download=False)
    assert dict(zip(data.views.names, data.views.widths, strict=True)) == dict(entry.views)
    assert (data.views.n_samples, len(data.classes)) == (entry.samples, entry.classes)
    assert data.sha256 == entry.sha256
    assert_array_equal(data.target, load_digits().target)
    start = time.perf_counter()
    load_dataset("digits")
    assert time.perf_counter() - start < 1


def test_nothing_is_fitted_on_rows(images, views) -> None:
    few = [5, 1700, 5, 3]
    for name, view in digit_views(images[few]).items():
        assert_allclose(view, views[name][few], rtol=1e-12, atol=1e-9)


def test_pixels_fourier_dct(images, views) -> None:
    assert_array_equal(views["pixels"], images.reshape(-1, 64))
    for i in (0, 700):
        spectrum = np.abs(np.fft.fft2(images[i])).ravel()
        # every magnitude of the full spectrum is there, and nothing else
        gap = np.abs(spectrum[:, None] - views["fourier"][i][None, :])
        assert gap.min(axis=1).max() < 1e-9
        assert gap.min(axis=0).max() < 1e-9
        full = dct(dct(images[i], axis=0, norm="ortho"), axis=1, norm="ortho")
        expected = [full[r, c] for r in range(8) for c in range(8) if r + c <= 7]
        assert_allclose(views["dct"][i], expected, atol=1e-9)


def test_projections_by_hand(images, views) -> None:
    for i in (0, 42):
        image, ink = images[i], images[i] >= INK[1]
        expected = [*image.sum(axis=1), *image.sum(axis=0)]
        expected += [np.trace(image, k) for k in range(-7, 8)]
        expected += [np.trace(np.fliplr(image), k) for k in range(-7, 8)]
        for lines in (ink, ink[:, ::-1], ink.T, ink.T[:, ::-1]):
            expected += [next((j for j in range(8) if line[j]), 8) for line in lines]
        assert_allclose(views["projections"][i], expected)


def test_moments_by_hand(images, views) -> None:
    y, x = np.mgrid[:8, :8]
    for i in (1, 99):
        image = images[i]
        mass = image.sum()
        cy, cx = (image * y).sum() / mass, (image * x).sum() / mass
        expected = [mass, cy, cx]
        for p in range(5):
            for q in range(5):
                if 2 <= p + q <= 4:
                    central = (image * (y - cy) ** p * (x - cx) ** q).sum()
                    expected.append(central / mass ** (1 + (p + q) / 2))
        assert_allclose(views["moments"][i, :15], expected, rtol=1e-9, atol=1e-12)


def test_hu_invariants_do_not_turn_with_the_image(images) -> None:
    upright = digit_views(images[:50])["moments"][:, 15:]
    turned = digit_views(np.rot90(images[:50], axes=(1, 2)))["moments"][:, 15:]
    mirrored = digit_views(images[:50, :, ::-1])["moments"][:, 15:]
    assert_allclose(turned, upright, rtol=1e-6, atol=1e-6)
    assert_allclose(mirrored[:, :6], upright[:, :6], rtol=1e-6, atol=1e-6)
    assert_allclose(mirrored[:, 6], -upright[:, 6], rtol=1e-6, atol=1e-6)


def test_an_empty_image_is_finite() -> None:
    for view in digit_views(np.zeros((2, 8, 8))).values():
        assert np.isfinite(view).all()


def test_morphology_image_by_image(images, views) -> None:
    for i in range(0, len(images), 60):
        expected = []
        for level in INK:
            ink = np.pad(images[i] >= level, 1)
            holes = ndimage.label(~ink, structure=CROSS)[1] - 1
            filled = ndimage.binary_fill_holes(ink)
            edges = sum(np.abs(np.diff(ink.astype(int), axis=axis)).sum() for axis in (0, 1))
            rows = sum(ndimage.label(line)[1] for line in ink)
            columns = sum(ndimage.label(line)[1] for line in ink.T)
            expected += [ink.sum(), ndimage.label(ink, structure=FULL)[1], holes]
            expected += [filled.sum() - ink.sum(), edges, rows, columns]
            expected += [ink.any(axis=1).sum(), ink.any(axis=0).sum()]
            expected.append(ndimage.binary_erosion(ink, structure=CROSS).sum())
        assert_array_equal(views["morphology"][i], expected)


def test_every_view_tells_digits_apart() -> None:
    data = load_dataset("digits")
    train = np.arange(len(data.target)) % 5 > 0
    for name, x in data.views.items():
        scaled = (x - x[train].mean(axis=0)) / (x[train].std(axis=0) + 1e-9)
        distance = (scaled[train] ** 2).sum(axis=1) - 2 * scaled[~train] @ scaled[train].T
        guess = data.target[train][distance.argmin(axis=1)]
        assert (guess == data.target[~train]).mean() > 0.55, name
