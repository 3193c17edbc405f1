"""How long OpenMP threads spin while they wait for each other."""

import os

__all__ = ["SPIN_COUNT", "limit_spinning"]

# Rounds of the waiting loop. GNU's OpenMP spins 300,000 by default, on two cores most of a busy
# program's time slice; asleep at once, threads lose half of their speed on a quiet machine. The
# measurements are in docs/speed.md.
SPIN_COUNT = 3000


def limit_spinning() -> None:
    """Let waiting threads sleep soon, unless the user has set how they wait.

    It must be called before torch is imported, which reads the setting when it is loaded.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPIN_COUNT))
