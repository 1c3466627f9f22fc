"""Documents as YAML for people: what `workflows:export` writes."""

import io
from collections.abc import Iterable, Mapping
from typing import Any

WIDTH = 100


def to_yaml(documents: Iterable[Mapping[str, Any]]) -> str:
    """YAML text of some documents, scripts as blocks, in the order of their names."""
    from ruamel.yaml import YAML  # ruff: ignore[import-outside-top-level]  # start-up time
    from ruamel.yaml.scalarstring import LiteralScalarString  # ruff: ignore[import-outside-top-level]  # start-up time

    def shaped(value: Any) -> Any:  # ruff: ignore[any-type]  # a JSON value
        if isinstance(value, str) and "\n" in value:
            return LiteralScalarString(value)
        if isinstance(value, Mapping):
            return {key: shaped(item) for key, item in value.items()}
        if isinstance(value, list):
            return [shaped(item) for item in value]
        return value

    yaml = YAML()
    yaml.version = None
    yaml.width = WIDTH
    yaml.indent(mapping=2, sequence=4, offset=2)
    out = io.StringIO()
    for index, document in enumerate(documents):
        if index:
            out.write("---\n")
        yaml.dump(shaped(document), out)
    return out.getvalue()
