"""The IDX format of the MNIST files, described at the end of LeCun's MNIST page.

The header, big-endian: two zero bytes, the element type (8: unsigned byte), the number of dimensions, and each
dimension as a 32-bit integer. The elements follow in C order.
"""

import math
import struct

import numpy as np

from lenet.errors import PipelineError

_UINT8 = 8


def decode(data: bytes, name: str) -> np.ndarray:
    """Return the uint8 array in the IDX file `data` as a read-only view.

    Raises PipelineError, beginning with `name`, if `data` is not exactly one complete IDX array of unsigned bytes.
    """
    if len(data) < 4:
        raise PipelineError(f"{name} is not an IDX file: it has {len(data)} bytes, fewer than the header")
    zero, kind, dimensions = struct.unpack_from(">HBB", data)
    if zero != 0 or kind != _UINT8 or dimensions == 0:
        raise PipelineError(f"{name} is not an IDX file of unsigned bytes: it begins with {data[:4].hex(' ')}")
    start = 4 + 4 * dimensions
    if len(data) < start:
        raise PipelineError(f"{name} is truncated: {len(data)} bytes, but its header alone takes {start}")
    shape = struct.unpack_from(f">{dimensions}I", data, 4)
    if len(data) - start != math.prod(shape):
        raise PipelineError(
            f"{name} declares {'×'.join(map(str, shape))} = {math.prod(shape)} bytes, but contains {len(data) - start}"
        )
    try:
        return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
    except ValueError as error:  # too many dimensions, or huge dimensions beside one of 0
        raise PipelineError(f"{name} declares {'×'.join(map(str, shape))}: {error}") from None
