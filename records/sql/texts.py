"""Column types for text that clients may choose: no value makes a statement fail."""

from __future__ import annotations

from sqlalchemy import Dialect, LargeBinary, Text, TypeDecorator


class Word(TypeDecorator[str]):
    """Text that is looked up: ids, owners, languages. Characters that a database rejects (NUL, lone
    surrogates) become an escape that no such text contains, so that the text is not found.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        if value is None or (value.isascii() and "\0" not in value):
            return value
        return value.encode("ascii", "backslashreplace").decode().replace("\0", "\\x00")


class Opaque(TypeDecorator[str]):
    """Text that is only handed back: names, paths, labels. Kept as bytes, every string as it was."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002
        return None if value is None else value.encode("utf-8", "surrogatepass")

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else value.decode("utf-8", "surrogatepass")
