"""Filling the templates: everything escaped, style and script inside the page, numbers written as people do."""

from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256
from importlib.resources import files
from math import floor, log10

import jinja2

from selfreg.report.content import is_missing

MINUS, THIN = "\N{MINUS SIGN}", "\N{NARROW NO-BREAK SPACE}"


def render(template: str, **values: object) -> str:
    """Fill a template of this package, everything escaped, the style and the script put into the page."""
    folder = files("selfreg.report") / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"amount": amount, "signed": signed}
    environment.tests["missing"] = is_missing
    style = (folder / "page.css").read_text(encoding="utf-8")
    script = (folder / "page.js").read_text(encoding="utf-8")
    script_hash = b64encode(sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(style=style, script=script, script_hash=script_hash, **values)


def decimals(values: Iterable[float | None], unit: str) -> int:
    """Choose how many decimals values are written with: one for percent, else three digits of the largest."""
    sizes = [abs(value) for value in values if value is not None and not is_missing(value)]
    if unit == "%" or not any(sizes):
        return 1
    return min(6, max(0, 2 - floor(log10(max(sizes)))))


def amount(value: float, places: int = 1) -> str:
    """Write a value with `places` decimals, thousands apart."""
    return f"{value:,.{places}f}".replace("-", MINUS).replace(",", THIN)


def signed(value: float, places: int = 1) -> str:
    """Write a difference with its sign, and a zero without."""
    words = amount(abs(value), places)
    if not any(digit in words for digit in "123456789"):
        return words
    return ("+" if value > 0 else MINUS) + words
