"""The golden values: what the package computed before, bit by bit."""
