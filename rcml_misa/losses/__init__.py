"""Loss terms of evidential and shared-private learning, as pure functions."""

from rcml_misa.losses.terms import (
    EDLForm,
    conflict_loss,
    credibility_loss,
    difference_loss,
    dirichlet_kl,
    edl_loss,
    reconstruction_loss,
    shared_private_loss,
    similarity_loss,
    view_confusion_loss,
    weighted_mean,
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
