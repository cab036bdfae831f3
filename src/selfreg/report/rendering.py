"""Filling of the HTML templates, and formatting of numbers."""

from base64 import b64encode
from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from importlib.resources import files
from math import floor, log10

import jinja2

from selfreg.evaluation.measures import signed_places
from selfreg.report.content import Number, is_missing

SCRIPTS = ("pairs.js", "tables.js", "page.js")
MINUS, THIN = "\N{MINUS SIGN}", "\N{NARROW NO-BREAK SPACE}"


def render(template: str, **values: object) -> str:
    """Fill a template of this package: values are escaped, style and script are put into the page.

    Bytes of file names that are not UTF-8 are written as escapes.
    """
    folder = files("selfreg.report") / "templates"
    style = (folder / "page.css").read_text(encoding="utf-8")
    script = "\n".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS)
    script_hash = b64encode(sha256(script.encode()).digest()).decode()
    filled = _environment().get_template(template)
    page = filled.render(style=style, script=script, script_hash=script_hash, **values)
    return page.encode("utf-8", "backslashreplace").decode("utf-8")


@cache
def _environment() -> jinja2.Environment:
    # kept for the next page, because it keeps the compiled templates
    folder = files("selfreg.report") / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"amount": amount, "signed": signed, "places": places, "decimals": decimals}
    environment.tests["missing"] = is_missing
    return environment


def decimals(values: Iterable[float | None], unit: str) -> int:
    """Choose the number of decimals: one for percent, none for counts, otherwise three significant digits."""
    sizes = [abs(value) for value in values if value is not None and not is_missing(value)]
    if unit == "%":
        return 1
    if all(float(size).is_integer() for size in sizes):
        return 0
    return min(6, max(0, 2 - floor(log10(max(sizes)))))


def places(number: Number) -> int:
    """Choose the decimals of a number, enough to show on which side of 0 the ends of its interval lie."""
    base = decimals(number.values or (number.difference,), number.unit)
    return signed_places(number.difference_interval, base) if number.verdict and number.difference_interval else base


def amount(value: float, places: int = 1) -> str:
    """Format a value with `places` decimals and spaces between thousands."""
    return f"{value:,.{places}f}".replace("-", MINUS).replace(",", THIN)


def signed(value: float, places: int = 1) -> str:
    """Format a difference with its sign; zero has none."""
    words = amount(abs(value), places)
    if not any(digit in words for digit in "123456789"):
        return words
    return ("+" if value > 0 else MINUS) + words
