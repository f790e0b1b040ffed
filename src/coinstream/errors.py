"""The tree of errors: what a failure means for the work at hand.

    CoinstreamError
    ├── TransientError     retry: the work is good, the world is not ready for it
    ├── RefusedError       dead letter: this one input is bad, its neighbours are not
    │   └── FieldError     … and this is the field, what it held and what it must be
    └── FatalError         stop: only a person can mend this
        └── SettingsError  … by changing this setting

Every room's own errors descend from one of the three, so that a loop decides with one ``except``.
"""

from __future__ import annotations


class CoinstreamError(Exception):
    """Any error that coinstream raises on purpose; its text is one sentence for a person."""


class TransientError(CoinstreamError):
    """A server is away, slow or moving: wait, then try the same work again."""


class RefusedError(CoinstreamError):
    """One input cannot be accepted and never will be: dead-letter it and go on with the next."""


class FieldError(RefusedError):
    """A field is missing, malformed or out of range.

    Attributes:
        field: The field's name, with its place in a list where it has one (``bids[3].price``).
        reason: What is wrong with it, in words.
        value: What it held, cut to 80 characters; ``None`` where it was missing.
    """

    def __init__(self, field: str, reason: str, value: object = None) -> None:
        self.field = field
        self.reason = reason
        self.value = None if value is None else repr(value)[:80]
        super().__init__(f"{field}: {reason}" + ("" if self.value is None else f", not {self.value}"))


class FatalError(CoinstreamError):
    """The process cannot go on; its text says what to do next."""


class SettingsError(FatalError):
    """A setting has a value that cannot be used; the command ends with status 2.

    Attributes:
        setting: The setting's name as the user wrote it.
        value: The offending value.
        allowed: What would be accepted, in words.
    """

    def __init__(self, setting: str, value: object, allowed: str) -> None:
        self.setting = setting
        self.value = value
        self.allowed = allowed
        super().__init__(f"{setting}={value!r} cannot be used: {allowed}")
