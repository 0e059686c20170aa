"""Model files: a fitted estimator in one safetensors file with a JSON header, no pickle."""

from rcml_misa.persistence.container import FORMAT_VERSION
from rcml_misa.persistence.models import check_savable, describe, read_model, save
from rcml_misa.persistence.steps import parted

__all__ = ["FORMAT_VERSION", "check_savable", "describe", "parted", "read_model", "save"]
