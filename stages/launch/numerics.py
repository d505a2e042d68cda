"""Environment variables that decide how the processor computes: the last bits of every result, and its speed.

Libraries read them when they are loaded, so they must be set before a process imports PyTorch; this module does not
import it.
"""

import os
from pathlib import Path


def environment() -> dict[str, str]:
    """Return the variables with which a stage is started.

    They make processors with and without AVX-512 agree to the bit. `STAGES_PROCESSOR`, a list such as
    `ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41`, overrides them, to see what another processor would compute.
    """
    # cuBLAS is deterministic only with a workspace of fixed size:
    # https://docs.pytorch.org/docs/stable/notes/randomness.html
    variables = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    # Otherwise glibc returns the memory of each layer's output to the kernel in every step, and the kernel clears it.
    variables |= {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**30)}
    # AVX-512 would round sums differently from AVX2, and make training only a little faster.
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and " avx2 " in cpuinfo.read_text():
        variables |= {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    overrides = os.environ.get("STAGES_PROCESSOR", "").split()
    return variables | {name: value for name, _, value in (pair.partition("=") for pair in overrides)}
