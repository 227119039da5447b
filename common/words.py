"""Words for numbers."""


def counted(number: int, noun: str) -> str:
    """The number with its noun in singular or plural: 1 epoch, 2 epochs."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
