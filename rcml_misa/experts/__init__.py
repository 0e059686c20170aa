"""Closed-form members: kernel features, ridge with exact leave-one-out scores, stacking."""

__all__: list[str] = []  # every name comes from its own module
