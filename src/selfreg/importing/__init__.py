"""Conversion of exports of labelling tools to data sets in folders."""

from selfreg.importing.writing import Imported, import_export

__all__ = ["Imported", "import_export"]
