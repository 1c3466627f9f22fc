"""How large a definition file may be."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a file.

    Attributes:
        file_bytes: Size of the file.
        nodes: Values and names, after aliases are expanded.
        depth: Nesting of mappings and lists.
        text: Characters of one text.
    """

    file_bytes: int = 1_048_576
    nodes: int = 50_000
    depth: int = 50
    text: int = 262_144
