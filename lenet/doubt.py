"""When an answer is doubtful, and which classes to name then."""

from collections.abc import Sequence

# Below this probability of its first choice, an answer is doubtful. docs/pictures.csv says what that catches, on
# validation images and drawn pictures. Nothing tried here tells a digit from what is none (docs/no-digit.csv).
SURE = 0.8


def doubt(probabilities: Sequence[float]) -> list[int]:
    """Return the two likeliest of the classes with these `probabilities` if the answer is doubtful, else none."""
    first, second, *_ = sorted(range(len(probabilities)), key=lambda i: -probabilities[i])
    return [] if probabilities[first] >= SURE else [first, second]
