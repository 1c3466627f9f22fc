"""Text that somebody else wrote, for a terminal. Pure."""


def printable(text: str) -> str:
    """One line, and nothing that a terminal obeys."""
    return "".join(each if each.isprintable() else " " for each in text)
