"""The training loop: batches, optimiser, schedule, early stopping, history, device."""

from rcml_misa.training.loop import (
    Device,
    EarlyStopping,
    History,
    Optimisation,
    Progress,
    Schedule,
    pick_device,
    seeded,
    train,
)
from rcml_misa.training.selection import Descent, bucketed_batches, train_selected

__all__ = [
    "Descent",
    "Device",
    "EarlyStopping",
    "History",
    "Optimisation",
    "Progress",
    "Schedule",
    "bucketed_batches",
    "pick_device",
    "seeded",
    "train",
    "train_selected",
]
