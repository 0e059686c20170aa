"""Closed-form members: kernel features, ridge with exact leave-one-out scores, stacking."""
