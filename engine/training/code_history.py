"""The code that has trained a run: an entry for each stretch of training, oldest first; None where it is unknown."""

from typing import Any

from engine.protocol.plan import Code

CodeHistory = list[Code] | None


def extended(history: CodeHistory, code: Code) -> CodeHistory:
    """The history after a training step by `code`."""
    return history if history is None or history[-1:] == [code] else [*history, code]


def last_code(history: CodeHistory) -> Code | None:
    """The code that took the run's last step; None before the first one, and where it is unknown."""
    return history[-1] if history else None


def config_entries(history: CodeHistory, code: Code, resumed: bool) -> dict[str, Any]:
    """What config.json says of the code from here on: `code` trains the run, after what `history` has.

    Args:
        resumed: whether the run goes on from a checkpoint; then an empty history means that its code is unknown.
    """
    if resumed and not history:
        return {"code": None, "earlier_code": []}
    before = history or []
    return {"code": code, "earlier_code": before[:-1] if before[-1:] == [code] else before}
