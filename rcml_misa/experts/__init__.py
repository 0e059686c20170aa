"""Closed-form members: kernel features, ridge with exact leave-one-out scores, stacking."""

from rcml_misa.experts.expert import KernelExpert
from rcml_misa.experts.ridge import Ridge, fit_ridge
from rcml_misa.experts.view_experts import ViewExperts

__all__ = ["KernelExpert", "Ridge", "ViewExperts", "fit_ridge"]
