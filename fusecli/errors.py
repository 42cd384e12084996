"""Every exception that fusecli raises on purpose.

    FusecliError       message, facts, hint and a stable dotted code
      UsageError       bad option or combination of options          exit 2
      InputError       folder, pairing, unreadable image, sizes      exit 2 (or an item failure)
      MissingError     weights, an optional package, a device        exit 5
      CheckError       a requested check did not hold                exit 6

Raised before work begins, an error ends the command with its exit code. Raised while one pair is
processed, it becomes that pair's failure and the run goes on.
"""

from collections.abc import Iterable
from typing import Any, ClassVar


class FusecliError(Exception):
    """Something the user can mend.

    Args:
        message: One sentence that says what is wrong, with the values concerned.
        code: Stable dotted code for scripts, such as `pair.unmatched`.
        facts: At most ten short lines shown below the message.
        hint: What to do next, ready to be pasted where possible.
        details: JSON-ready values for `--json`.
    """

    exit_code: ClassVar[int] = 2

    def __init__(
        self,
        message: str,
        *,
        code: str,
        facts: Iterable[str] = (),
        hint: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.facts = tuple(facts)
        self.hint = hint
        self.details = details or {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep every field when the error crosses a process boundary (joblib, loky)."""
        state = (self.message, self.code, self.facts, self.hint, self.details)
        return (_rebuild, (type(self), *state))

    def as_dict(self) -> dict[str, Any]:
        """Return the error as it appears in `--json` output and manifests."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "facts": list(self.facts),
            "details": self.details,
        }


def _rebuild(
    kind: type[FusecliError],
    message: str,
    code: str,
    facts: tuple[str, ...],
    hint: str | None,
    details: dict[str, Any],
) -> FusecliError:
    return kind(message, code=code, facts=facts, hint=hint, details=details)


class UsageError(FusecliError):
    """An option, or a combination of options, that makes no sense."""


class InputError(FusecliError):
    """A folder, pair or image that cannot be used."""


class MissingError(FusecliError):
    """Weights, an optional package or a device that is not there."""

    exit_code = 5


class CheckError(FusecliError):
    """A check the user asked for did not hold."""

    exit_code = 6
