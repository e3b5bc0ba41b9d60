"""HTML from Jinja2 templates, in which every value is escaped; a page is one file that loads nothing.

Jinja2 is imported when the first page is written, and by no command before.
"""

import base64
import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

__all__ = ["fragment", "rendered_page", "safe_json"]

COMMON = "triptych_data.pages"
"""The package whose ``assets`` every page may use."""


def rendered_page(
    package: str, name: str, *, look: str | None = None, scripts: Sequence[str] = (), **values: Any
) -> Iterator[str]:
    """Yield the page ``<name>.html`` of a package's ``assets`` piece by piece; iterables in it are read lazily.

    The template extends ``page.html``, the shell of all pages, whose policy allows this style and this script and
    nothing else. They are, in this order, those of all pages, further ``scripts`` from the page's own folder or else
    the common one, with its style where it has one, and ``<name>.css`` and ``<name>.js``. A page with the
    ``look`` of another one has its style, and no script of its own.
    """
    own, common = resources.files(package) / "assets", resources.files(COMMON) / "assets"
    places = (own, common)
    scripted = [next(path for place in places if (path := place / f"{more}.js").is_file()) for more in scripts]
    styled = [path for more in scripts for place in places if (path := place / f"{more}.css").is_file()]
    style = _joined(common / "common.css", *styled, own / f"{look or name}.css")
    script = _joined(common / "common.js", *scripted, *([] if look else [own / f"{name}.js"]))
    template = _environment(package).get_template(f"{name}.html")
    return template.generate(style=style, style_hash=_hash(style), script=script, script_hash=_hash(script), **values)


def fragment(package: str, name: str, **values: Any) -> "Markup":
    """Return a part of a page, from the template ``<name>.html`` of a package's ``assets``; it is not escaped again."""
    from markupsafe import Markup

    return Markup(_environment(package).get_template(f"{name}.html").render(**values))


def safe_json(value: Any) -> str:
    """Return JSON that cannot end the script element that contains it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


@functools.cache
def _environment(package: str) -> "Environment":
    """The templates of a package and of all pages: every value is escaped, and one that is missing is an error."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(one, "assets") for one in dict.fromkeys((package, COMMON))]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["json"] = lambda value: Markup(safe_json(value))
    return environment


def _joined(*files: Traversable) -> str:
    return "\n".join(file.read_text(encoding="utf-8").rstrip("\n") for file in files) + "\n"


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
