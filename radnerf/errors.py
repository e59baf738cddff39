"""The errors that radnerf raises on purpose, each with what happened and what to do next."""

from __future__ import annotations


class RadnerfError(Exception):
    """Something went wrong that the user can understand.

    Attributes:
        message: What happened, with the offending value.
        hint: What to do next; empty when there is nothing to add.
        exit_code: The status with which the command line ends.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Keep the message and the hint apart, so that they can be shown and tested apart."""
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """One line: the message and, when there is one, the hint."""
        return f"{self.message} ({self.hint})" if self.hint else self.message


class BadInput(RadnerfError):
    """What the user gave cannot be used: a file, an option, a setting. Exit code 2."""

    exit_code = 2


class BackendUnavailable(BadInput):
    """The forced backend or device does not exist on this machine. Exit code 2."""


class Diverged(RadnerfError):
    """Training met non-finite numbers and could not go on. Exit code 1."""


class Interrupted(RadnerfError):
    """Somebody ended what goes on until somebody ends it. Exit code 130."""

    exit_code = 130
