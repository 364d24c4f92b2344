"""HTML from templates: what is filled in is text, and shown as it is, unless it is HTML itself."""

import html
import urllib.parse
from typing import Any


class Html(str):
    """Text that is HTML already."""


def fill(template: str, **values: Any) -> Html:
    """Return a template (of `str.format`) with values filled in.

    Values of type `Html` stay as they are; all others are text and escaped, also for attributes in
    double quotes.
    """
    shown = {
        name: value if isinstance(value, Html) else html.escape(str(value))
        for name, value in values.items()
    }
    return Html(template.format(**shown))


def join(parts: Any, between: str = "") -> Html:
    """Return pieces of HTML (text is escaped) one after the other, with HTML between them."""
    return Html(between.join(fill("{part}", part=part) for part in parts))


def link_to(*names: str) -> str:
    """Return the relative address of a file below the page, for whatever names are on the way."""
    return "./" + "/".join(urllib.parse.quote(name, safe="") for name in names)
