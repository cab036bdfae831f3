"""Hook of mkdocs: equations become MathML when the pages are built, so that they show without any script."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

# what pymdownx.arithmatex leaves, in its generic form
_EQUATION = re.compile(
    r'<(span|div) class="arithmatex">\s*\\(?P<kind>[(\[])(?P<latex>.*?)\\[)\]]\s*</\1>', flags=re.DOTALL
)


def on_page_content(content: str, **_: Any) -> str:
    """Replace each equation of a page by MathML; raises ValueError for a command that the converter does not know."""
    return _EQUATION.sub(_mathml, content)


def _mathml(match: re.Match[str]) -> str:
    latex = html.unescape(match["latex"]).strip()
    mathml = str(convert(latex, display="block" if match["kind"] == "[" else "inline"))
    if "\\" in mathml or ">&<" in mathml:  # what the converter does not know, it passes through
        raise ValueError(f"no MathML for a part of {latex!r}: write it with other commands")
    return mathml
