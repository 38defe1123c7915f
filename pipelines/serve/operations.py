"""The page /docs: all operations of the OpenAPI document as plain HTML, without a script."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jinja2

TEMPLATES = Path(__file__).parent / "templates"


def operations_page(document: dict[str, Any]) -> str:
    """Return a page about the operations of an OpenAPI document."""
    operations = [
        {
            "method": method.upper(),
            "path": path,
            "text": operation.get("description", ""),
            "parameters": [
                {"name": each["name"], "place": each["in"], "schema": _shown(each["schema"])}
                for each in operation.get("parameters", [])
            ],
            "body": [_shown(content["schema"]) for content in _contents(operation.get("requestBody", {}))],
            "answers": [
                {
                    "status": status,
                    "text": answer.get("description", ""),
                    "kinds": [_name(content.get("schema", {})) for content in _contents(answer)],
                }
                for status, answer in operation["responses"].items()
            ],
        }
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    schemas = {name: _shown(schema) for name, schema in document["components"]["schemas"].items()}
    return _template().render(info=document["info"], operations=operations, schemas=schemas)


@functools.cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    return jinja2.Environment(loader=loader, autoescape=True).get_template("operations.html")


def _contents(part: dict[str, Any]) -> list[dict[str, Any]]:
    return list(part.get("content", {}).values())


def _name(schema: dict[str, Any]) -> str:
    """Return the name of the schema that a schema refers to; "" for one without a name."""
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _shown(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False)
