"""Pages in HTML, made from templates. Texts are shown as they are: markup in them is escaped, and so is what
a reader would not see, such as controls and directions of writing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from pipelines.options import printable


def page(template: Path, **values: Any) -> str:
    """Return the page that a template makes of values.

    Args:
        template: path of a template of Jinja.
        values: what the template names; a value that it names and that is missing is a fault.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template.name).render(**values)


def _shown(value: object) -> object:
    return printable(value, lines=True) if type(value) is str else value
