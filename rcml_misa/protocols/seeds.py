"""One run's sources of chance, all from one number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["RunSeeds", "spawn_seeds"]


@dataclass(frozen=True)
class RunSeeds:
    """One run's independent sources of chance.

    Attributes
    ----------
    split, corruption, noise : numpy.random.SeedSequence
        For the split, `conflict_views` and `noise_views`.
    model : int
        For an estimator's `random_state`.
    validation, training : numpy.random.SeedSequence
        For the rows held back, and for what is done to the train rows.
    """

    split: np.random.SeedSequence
    corruption: np.random.SeedSequence
    noise: np.random.SeedSequence
    model: int
    validation: np.random.SeedSequence
    training: np.random.SeedSequence

    def test_set(self, name: str) -> np.random.Generator:
        """Draw for the test set of that name, whichever others there are."""
        return np.random.default_rng([*self.corruption.generate_state(4), *name.encode()])


def spawn_seeds(seed: int) -> RunSeeds:
    """Spawn a run's seeds from one number.

    Examples
    --------
    >>> spawn_seeds(0).model == spawn_seeds(0).model, spawn_seeds(0).model == spawn_seeds(1).model
    (True, False)
    """
    split, corruption, noise, model, validation, training = np.random.SeedSequence(seed).spawn(6)
    state = int(model.generate_state(1)[0])
    return RunSeeds(split, corruption, noise, state, validation, training)
