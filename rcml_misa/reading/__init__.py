"""Readings of raw views before an estimator learns: feature maps, quantiles, rows, inputs."""
