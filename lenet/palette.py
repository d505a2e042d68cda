"""The colours of the pictures and of the report's page, and how both draw what is hard to show."""

import numpy as np

# Blue and vermilion from Okabe and Ito (2008), which remain distinct to people with colour blindness. The vermilion is
# darkened until it is legible as text on white. A dark page needs lighter ones.
BLUE, ORANGE = "#0072B2", "#B84E00"
BLUE_ON_DARK, ORANGE_ON_DARK = "#56B4E9", "#F0A070"

# The opacity of ORANGE behind the number of errors in a confusion matrix, for none and for the most.
ERROR_OPACITY = (0.15, 0.6)

# Logarithmic axes cannot show 0. This takes its place: less than one error in 60,000 images.
LOG_FLOOR = 1e-5


def opacity(counts: np.ndarray) -> np.ndarray:
    """Return how opaque to draw a mean of so many values: the fewer they are, the fainter."""
    shares: np.ndarray = np.sqrt(counts / (counts + 20))
    return shares
