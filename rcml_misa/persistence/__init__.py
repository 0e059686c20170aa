"""Model files: a fitted classifier in one safetensors file with a JSON header, no pickle."""

from rcml_misa.persistence.container import FORMAT_VERSION
from rcml_misa.persistence.models import (
    check_savable,
    load,
    load_with_header,
    save,
)
from rcml_misa.persistence.summary import describe

__all__ = ["FORMAT_VERSION", "check_savable", "describe", "load", "load_with_header", "save"]
