"""Checks of a data set before training: every image and mask is read once."""

from selfreg.checking.checks import check_data
from selfreg.checking.findings import DataReport, Finding

__all__ = ["DataReport", "Finding", "check_data"]
