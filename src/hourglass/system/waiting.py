"""How OpenMP's threads wait for each other, which counts as soon as something else wants a core.

Between two products torch's threads wait for the slowest of them. GNU's OpenMP has them spin, a third of a million
times, before they sleep. Where another process wants a core, a spinning thread takes it from the thread that is waited
for, and a training step takes several times as long. After a thousand turns a thread is asleep before that costs much,
and on an idle machine nearly every wait is shorter.
"""

import os

# The variables by which a user chooses how threads wait; see libgomp's manual, "Environment Variables".
WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def limit_spinning() -> None:
    """Have the threads of OpenMP spin for a thousand turns at most, unless the user has set how they wait.

    OpenMP reads the environment when it is loaded, with torch: call this before. Child processes inherit it.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["GOMP_SPINCOUNT"] = "1000"
