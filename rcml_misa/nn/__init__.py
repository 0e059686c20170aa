"""Small modules and the networks assembled from them; `forward` returns one frozen object."""

__all__: list[str] = []  # every name comes from its own module
