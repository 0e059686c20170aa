"""Loss terms of evidential and shared-private learning, as pure functions."""

from rcml_misa.losses.evidential import (
    EDLForm,
    Reduction,
    conflict_loss,
    credibility_loss,
    dirichlet_kl,
    edl_digamma,
    edl_log,
    edl_loss,
    edl_mse,
    edl_projected,
    weighted_mean,
)
from rcml_misa.losses.subspaces import (
    cmd,
    difference_loss,
    orthogonality,
    reconstruction_loss,
    shared_private_loss,
    similarity_loss,
    view_confusion_loss,
)

__all__ = [
    "EDLForm",
    "Reduction",
    "cmd",
    "conflict_loss",
    "credibility_loss",
    "difference_loss",
    "dirichlet_kl",
    "edl_digamma",
    "edl_log",
    "edl_loss",
    "edl_mse",
    "edl_projected",
    "orthogonality",
    "reconstruction_loss",
    "shared_private_loss",
    "similarity_loss",
    "view_confusion_loss",
    "weighted_mean",
]
