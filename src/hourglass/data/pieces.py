"""The special pieces at the start of every vocabulary: padding, begin and end of sentence, unknown."""

# Their ids are the same in every vocabulary, so that the model knows them without it.
PAD, BOS, EOS, UNK = 0, 1, 2, 3
FIXED_PIECES = 4
