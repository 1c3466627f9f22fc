"""Contents of a mirror's blobs: one command reads as many as there are to read."""

from collections.abc import Iterator, Mapping, Sequence

from controller.source.git import Git, GitError

_HEADER = 3
"""Words before a blob's content: id, type, size."""


class Blobs:
    """The blobs of one mirror.

    Args:
        git: The command, for this mirror.
        largest: Bytes; a larger blob is not read.
    """

    def __init__(self, git: Git, largest: int) -> None:
        self._git = git
        self._largest = largest

    def read(self, oids: Mapping[str, str]) -> Iterator[tuple[str, bytes | int]]:
        """Contents by path, or the size of what is too large; raises `GitError`.

        Args:
            oids: The blob of each path.
        """
        if not oids:
            return
        wanted = list(oids.items())
        sizes = self._batch("--batch-check", [oid for _, oid in wanted])
        small: list[str] = []
        for path, _ in wanted:
            size = int(bytes(next(sizes)))
            if size > self._largest:
                yield path, size
            else:
                small.append(path)
        contents = self._batch("--batch", [oids[path] for path in small])
        yield from zip(small, map(bytes, contents), strict=True)

    def _batch(self, option: str, oids: Sequence[str]) -> Iterator[memoryview | bytes]:
        """Sizes or contents of blobs, in this order."""
        given = "".join(f"{oid}\n" for oid in oids).encode()
        answer = self._git.local("cat-file", option, given=given) if oids else b""
        place = 0
        for oid in oids:
            end = answer.index(b"\n", place)
            header = answer[place:end].split()
            place = end + 1
            if header[:1] != [oid.encode()] or len(header) != _HEADER:
                raise GitError(f"the mirror lost {oid}", reason="damaged")
            if option == "--batch-check":
                yield header[2]
            else:
                size = int(header[2])
                yield memoryview(answer)[place : place + size]
                place += size + 1
