"""How the processor is to compute: variables of the environment that libraries read when they are loaded.

They decide the last bits of results, and have to be set before a process imports PyTorch, so this module does not.
"""

from pathlib import Path


def environment() -> dict[str, str]:
    """Return the variables under which this processor gives the bits that others give, too, as far as that goes."""
    # cuBLAS is deterministic only with a workspace of fixed size, which it reads when CUDA starts:
    # https://docs.pytorch.org/docs/stable/notes/randomness.html
    variables = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    # AVX-512, where there is one, would round sums differently from AVX2, and make training only a little faster.
    # Without it, both kinds of processor give the same bits.
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and " avx2 " in cpuinfo.read_text():
        variables |= {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    return variables
