"""Readings of raw views before an estimator learns: feature maps, quantiles, rows, inputs."""

__all__: list[str] = []  # every name comes from its own module
