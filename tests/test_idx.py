import fakes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lenet.data import idx
from lenet.errors import PipelineError


@pytest.mark.parametrize("shape", [(5,), (3, 28, 28), (0, 28, 28), (2, 3, 4, 5)])
def test_round_trip(shape):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    decoded = idx.decode(fakes.idx(array), "file")
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, array)


GOOD = fakes.idx(np.zeros((2, 3), np.uint8))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "file is not an IDX file: it has 0 bytes"),
        (GOOD[:3], "file is not an IDX file: it has 3 bytes"),
        (b"\x01" + GOOD[1:], "file is not an IDX file of unsigned bytes: it begins with 01 00 08 02"),
        (GOOD[:2] + b"\x0d" + GOOD[3:], "file is not an IDX file of unsigned bytes: it begins with 00 00 0d 02"),
        (GOOD[:3] + b"\x00" + GOOD[4:], "file is not an IDX file of unsigned bytes: it begins with 00 00 08 00"),
        (GOOD[:10], "file is truncated: 10 bytes, but its header alone takes 12"),
        (GOOD[:-1], "file declares 2×3 = 6 bytes, but contains 5"),
        (GOOD + b"\x00", "file declares 2×3 = 6 bytes, but contains 7"),
        (b"\0\0\x08\x04" + b"\0\0\0\0" + b"\x80\0\0\0" * 3, "file declares 0×2147483648×2147483648×2147483648: "),
        (b"\0\0\x08\x41" + b"\0\0\0\x01" * 65 + b"\0", "file declares 1×1×.*: maximum supported dimension"),
        (GOOD[:4] + b"\x80\0\0\0" * 2 + GOOD[12:], "file declares 2147483648×2147483648 = 4611686018427387904 bytes"),
    ],
)
def test_what_is_not_whole_and_right_is_refused(data, message):
    with pytest.raises(PipelineError, match=f"^{message}"):
        idx.decode(data, "file")


@settings(deadline=None)
@given(place=st.integers(0, len(GOOD) - 1), byte=st.integers(0, 255), tail=st.binary(max_size=8))
def test_fuzzed_files_are_refused_or_whole(place, byte, tail):
    data = GOOD[:place] + bytes([byte]) + GOOD[place + 1 :] + tail
    message = None
    try:
        array = idx.decode(data, "file")
    except PipelineError as error:
        message = str(error)
    if message is None:
        assert array.nbytes + 4 + 4 * array.ndim == len(data)
    else:
        assert message.startswith("file ")
