"""What can go wrong, as types.

Every error that sgxkit raises on purpose is a `SgxkitError`: one sentence saying what is wrong, a hint saying what
to do next, and a stable `code` for programs. Any other exception that reaches a caller is a bug in sgxkit.
"""

from __future__ import annotations

from typing import ClassVar

from sgxkit.messages import Message, msg


class SgxkitError(Exception):
    """Base of all errors raised on purpose."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: Message, *, hint: Message | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return str(self.message)


class FormatError(SgxkitError):
    """Bytes or text from outside that are not what their format says: which field, at which offset, and why.

    `offset` counts bytes from the start of the outermost structure; None where the input is text.
    """

    code = "format"
    exit_code = 3

    def __init__(
        self, field: str, problem: Message, *, offset: int | None = None, hint: Message | None = None
    ) -> None:
        if offset is None:
            message = msg("{field}: {problem}", field=field, problem=problem)
        else:
            message = msg("{field} at offset {offset}: {problem}", field=field, offset=offset, problem=problem)
        super().__init__(message, hint=hint)
        self.field = field
        self.offset = offset
        self.problem = problem


class InputError(SgxkitError):
    """An argument, a file or a setting that the caller gave and that cannot be used."""

    code = "input"
    exit_code = 3


class HostError(SgxkitError):
    """The host could not be read, or what was read of it cannot be used."""

    code = "host"
    exit_code = 2


class SetupError(SgxkitError):
    """A host could not be changed, or what was changed does not show."""

    code = "setup"
    exit_code = 1
