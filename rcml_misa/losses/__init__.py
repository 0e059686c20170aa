"""Losses of evidence, of fuzzy memberships and of MISA's subspaces, as pure functions."""

from rcml_misa.losses.evidential import (
    EDLForm,
    conflict_loss,
    credibility_loss,
    dirichlet_kl,
    edl_loss,
    weighted_mean,
)
from rcml_misa.losses.subspaces import (
    difference_loss,
    reconstruction_loss,
    shared_private_loss,
    similarity_loss,
    view_confusion_loss,
)

__all__ = [
    "EDLForm",
    "conflict_loss",
    "credibility_loss",
    "difference_loss",
    "dirichlet_kl",
    "edl_loss",
    "reconstruction_loss",
    "shared_private_loss",
    "similarity_loss",
    "view_confusion_loss",
    "weighted_mean",
]
