"""The special pieces that every vocabulary begins with."""

# The same in every vocabulary, so that the model can name them without having seen it.
PAD, BOS, EOS, UNK = 0, 1, 2, 3


FIXED_PIECES = 4
