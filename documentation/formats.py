"""The file formats of attnbench, as JSON Schemas and as tables for the reference.

Both come from the pydantic models. The description of a key is that of the attribute in the docstring
of its model.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from attnbench.backbones.backbone_schema import BackboneFile
from attnbench.manifest import Manifest
from attnbench.records.record import Record
from attnbench.task_schema import SharedAdaptation, SharedTrack, TaskDefinition, Track

# By the name of the format, which is also that of its schema file.
FORMATS: Mapping[str, type[BaseModel]] = MappingProxyType(
    {
        "submission": Manifest,
        "task": TaskDefinition,
        "adaptation": SharedAdaptation,
        "backbone": BackboneFile,
        "record": Record,
    }
)
_ADAPTATION = (
    "A file, relative to this one, that tasks share: it holds some keys of the track, "
    "and its [tracks.NAME] must have the track's name."
)


def attribute_descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Return the descriptions of a model's fields, from its docstring and those of its bases.

    Args:
        model: a model whose docstring has a Google-style section `Attributes:`.
    """
    descriptions: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if cls is BaseModel or not issubclass(cls, BaseModel):
            continue
        _, _, section = inspect.cleandoc(cls.__doc__ or "").partition("\nAttributes:\n")
        section = section.partition("\n\n")[0]
        # An entry starts with four spaces; the lines that continue it have eight.
        for entry in re.split(r"\n(?= {4}\S)", section):
            names, colon, text = entry.partition(":")
            if colon:
                sentence = " ".join(text.split())
                sentence = sentence[:1].upper() + sentence[1:]
                descriptions |= {name.strip(): sentence for name in names.split(",")}
    return descriptions


def models_within(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """Return a model and all models that its fields contain, by the name of their classes."""
    found: dict[str, type[BaseModel]] = {}

    def visit(annotation: object) -> None:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            if annotation.__name__ not in found:
                found[annotation.__name__] = annotation
                for field in annotation.model_fields.values():
                    visit(field.annotation)
            return
        for part in getattr(annotation, "__args__", ()):
            visit(part)

    visit(model)
    return found


def json_schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema of a format.

    Args:
        name: a key of `FORMATS`.
    """
    model = FORMATS[name]
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    for model_name, part in models_within(model).items():
        table = schema if part is model else definitions[model_name]
        _describe(table, part)
    if name == "task":
        _allow_adaptation_files(definitions[Track.__name__])
    address = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return address | schema


def _describe(table: dict[str, Any], model: type[BaseModel]) -> None:
    """Add the descriptions of a model to its schema, and remove what is not a key of the file."""
    table["description"] = (inspect.getdoc(model) or "").partition("\n\n")[0].replace("\n", " ")
    # A shared track has some of the keys of a track.
    descriptions = attribute_descriptions(Track if model is SharedTrack else model)
    for name, field in model.model_fields.items():
        if field.exclude:
            del table["properties"][name]
        elif name in descriptions:
            table["properties"][name]["description"] = descriptions[name]


def _allow_adaptation_files(track: dict[str, Any]) -> None:
    """Let a track name an adaptation file, which may hold the keys that the track lacks."""
    properties = {"adaptation": {"type": "string", "description": _ADAPTATION}}
    required = track.pop("required")
    track["properties"] = properties | track["properties"]
    track["anyOf"] = [{"required": ["adaptation"]}, {"required": required}]


def schema_text(name: str) -> str:
    """Return the text of the schema file of a format."""
    return json.dumps(json_schema(name), indent=2, ensure_ascii=False) + "\n"


def markdown(*names: str) -> str:
    """Return the reference of formats: a list of keys for each of their tables.

    Args:
        names: keys of `FORMATS`. What several of them contain is listed once.
    """
    parts: dict[str, str] = {}
    for name in names:
        schema = json_schema(name)
        for title, part in models_within(FORMATS[name]).items():
            if part is FORMATS[name]:
                parts[title] = "\n".join(_section(f"Keys of the {name} file", schema))
            else:
                parts.setdefault(title, "\n".join(_section(title, schema["$defs"][title])))
    return "\n\n".join(parts.values())


def _section(title: str, table: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {title}\n"
    yield table["description"] + "\n"
    choices = table.get("anyOf", ())
    required = set(table.get("required", ()))
    unless = set(choices[-1]["required"]) if choices else set()
    for key, value in table["properties"].items():
        if key in required:
            need = "required"
        elif key in unless:
            need = "required here or in the adaptation file"
        else:
            need = _default(value)
        remarks = ", ".join(filter(None, (_type(value), need)))
        text = value.get("description", "")
        yield f"- **`{key}`** ({remarks})" + (f": {text}" if text else "")


def _default(value: Mapping[str, Any]) -> str:
    default = value.get("default")
    return "" if default in (None, "", [], {}) else f"default `{json.dumps(default)}`"


def _type(value: Mapping[str, Any]) -> str:
    """Describe the type of a value in a few words, with links to the tables it may be."""
    match value:
        case {"$ref": reference}:
            name = reference.rpartition("/")[2]
            return f"[{name}](#{name.lower()})"
        case {"anyOf": kinds} | {"oneOf": kinds}:
            return " or ".join(dict.fromkeys(_type(k) for k in kinds if k.get("type") != "null"))
        case {"const": constant}:
            return f"`{json.dumps(constant)}`"
        case {"enum": values}:
            return " or ".join(f"`{json.dumps(one)}`" for one in values)
        case {"type": "array", "items": items}:
            return f"list of {_type(items)}"
        case {"type": "array", "prefixItems": items}:
            return f"{len(items)} × {_type(items[0])}"
        case {"type": "object", "additionalProperties": dict(inner)}:
            return f"table of {_type(inner)}"
        case {"type": "object", "patternProperties": dict(patterns)}:
            return f"table of {_type(next(iter(patterns.values())))}"
        case {"type": str(kind)}:
            return "table" if kind == "object" else kind
    return "any"
