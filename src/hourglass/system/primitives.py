"""How many kernels oneDNN keeps, which it generates for each shape that it meets.

A product in bfloat16 or in 8-bit integers, and a recurrent layer in any type, is a primitive of oneDNN's on a CPU: code
for its shapes, generated in about a millisecond. Nearly every batch has another number of tokens, and each layer needs
three primitives for it in training. oneDNN keeps 1,024, the last used: too few for the shapes of a corpus, so that a
training in bf16-mixed generates code in every step.
"""

import os

# The variable of oneDNN's Developer Guide, "Primitive Cache".
CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


def keep_primitives() -> None:
    """Have oneDNN keep 8,192 primitives, unless the user has set a number.

    Only those that are used take memory: a gigabyte in a default training in bf16-mixed (docs/speed.md).
    oneDNN reads the environment with its first primitive: call this before torch computes. Child processes inherit it.
    """
    os.environ.setdefault(CAPACITY, "8192")
