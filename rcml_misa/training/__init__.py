"""One training loop: batches, optimiser, schedule, early stopping, history, device."""

from rcml_misa.training.loop import (
    Device,
    History,
    Optimisation,
    Progress,
    Schedule,
    bucketed_batches,
    permuted_batches,
    pick_device,
    seeded,
    train,
)

__all__ = [
    "Device",
    "History",
    "Optimisation",
    "Progress",
    "Schedule",
    "bucketed_batches",
    "permuted_batches",
    "pick_device",
    "seeded",
    "train",
]
