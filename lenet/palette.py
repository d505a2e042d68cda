"""Colours and drawing conventions shared by the figures and the report page."""

import numpy as np

# Blue and vermilion from Okabe and Ito (2008), which remain distinct to people with colour blindness. The vermilion is
# darkened until it is legible as text on white. Dark pages need lighter shades.
BLUE, ORANGE = "#0072B2", "#B84E00"
BLUE_ON_DARK, ORANGE_ON_DARK = "#56B4E9", "#F0A070"

# The opacity of ORANGE behind the cells of a confusion matrix, for no errors and for the largest number of errors.
ERROR_OPACITY = (0.15, 0.6)

# Drawn in place of 0, which logarithmic axes cannot show: less than one error in 60,000 images.
LOG_FLOOR = 1e-5


def opacity(counts: np.ndarray) -> np.ndarray:
    """Return the opacity for drawing means over `counts` values: the fewer the values, the fainter."""
    shares: np.ndarray = np.sqrt(counts / (counts + 20))
    return shares
