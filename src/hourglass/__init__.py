"""Hourglass: what a fixed context vector costs a sequence-to-sequence model, and what attention buys back."""

from hourglass.system.primitives import keep_primitives
from hourglass.system.waiting import limit_spinning

# Here, as nothing of this package loads torch before.
keep_primitives()
limit_spinning()
