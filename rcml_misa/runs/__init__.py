"""R runs of several methods over processes, each scored on every test set of the protocol."""

__all__: list[str] = []  # every name comes from its own module
