"""When an answer is doubtful, and what to say then."""

from collections.abc import Sequence

# Below this probability of its first choice, an answer is doubtful. docs/pictures.csv says what that catches, on
# validation images and drawn pictures. Nothing tried here tells a digit from what is none (docs/no-digit.csv).
SURE = 0.8
# How many classes to name at most when in doubt.
_NAMED = 3


def doubt(chances: Sequence[float]) -> list[int]:
    """Return the classes to name if an answer with these probabilities is doubtful, likely ones first; else none.

    Together, they have a probability of SURE, unless there are too many.
    """
    ranked = sorted(range(len(chances)), key=lambda i: -chances[i])
    if chances[ranked[0]] >= SURE:
        return []
    named = next(n for n in range(2, len(ranked) + 1) if n == _NAMED or sum(chances[i] for i in ranked[:n]) >= SURE)
    return ranked[:named]


def question(names: Sequence[str]) -> str:
    """Return what to say if it may be any of `names`: "7 or 1"; "7, 1 or 2"."""
    *most, last = names
    return f"{', '.join(most)} or {last}"
