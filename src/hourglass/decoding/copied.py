"""Which pieces of a translation were copied from its source, by models with the copy switch.

Shapes: B sentences, T target positions, S source length.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from hourglass.corpora.languages import is_unspaced, words_of
from hourglass.data.batches import in_order
from hourglass.data.encoded import pad
from hourglass.data.pieces import BOS, EOS
from hourglass.data.tokenizer import Vocabularies
from hourglass.decoding.translate import ScoredTranslation
from hourglass.decoding.word_alignment import target_words
from hourglass.errors import UserError
from hourglass.models.copying import CopyReadouts
from hourglass.models.seq2seq import Seq2Seq

# The share of copying in a word's probability above which it counts as copied.
MOSTLY = 0.5


def check_copies(models: Sequence[Seq2Seq], option: str, remedy: str) -> None:
    """Check that all models copy.

    Args:
        models: of the translation.
        option: what needs that, for the message.
        remedy: what to do instead.

    Raises:
        UserError: one does not.
    """
    if not all(model.copies for model in models):
        raise UserError(f"{option} marks copied words, and a model has decoder.copy=false and copies none: {remedy}")


@torch.inference_mode()
def copied_shares(
    models: Sequence[Seq2Seq],
    sources: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    batch_tokens: int = 2000,
) -> list[np.ndarray]:
    """Return, for each translation, the share of copying in the probability of each piece, [T].

        (1 - p_gen) sum over s with x_s = v of weights_s / P(v)

    Args:
        models: in evaluation mode, with the copy switch; of several the mean.
        sources: ids, without end-of-sentence.
        targets: ids, with or without end-of-sentence.
        batch_tokens: padded tokens of a batch, at most.
    """
    source_ids, target_ids = [[*ids, EOS] for ids in sources], [[BOS, *ids] for ids in targets]
    lengths = [np.array([len(ids) for ids in side]) for side in (source_ids, target_ids)]
    shares: list[np.ndarray] = [np.empty(0)] * len(source_ids)
    for rows in in_order(lengths[0], lengths[1], batch_tokens) if source_ids else []:
        source, target = pad([source_ids[i] for i in rows]), pad([target_ids[i] for i in rows])
        total = np.zeros((len(rows), target.shape[1] - 1))
        for model in models:
            device = next(model.parameters()).device
            memory = model.encode(source.to(device), torch.from_numpy(lengths[0][rows]).to(device))
            read = model.readouts(target[:, :-1].to(device), memory)
            assert isinstance(read, CopyReadouts)
            labels = target[:, 1:].to(device).unsqueeze(-1)
            generated = model.output(read.vectors).log_softmax(-1).gather(-1, labels).squeeze(-1)
            generated += F.logsigmoid(read.switch)
            whole = model.scores(read).gather(-1, labels).squeeze(-1)
            total += (1 - (generated - whole).exp()).clamp(0, 1).double().cpu().numpy() / len(models)
        for number, row in enumerate(rows):
            shares[row] = total[number, : lengths[1][row] - 1]
    return shares


def mark_copied(vocabularies: Vocabularies, language: str, translation: ScoredTranslation, shares: np.ndarray) -> str:
    """Return a translation with its copied words in square brackets; a run of them is in one pair.

    A word is copied if the mean share of its pieces is above `MOSTLY`. Pieces of a prefix are the user's, not copied: a
    word that begins in the prefix is judged by its other pieces.

    Args:
        vocabularies: of the model.
        language: the code of the target language.
        translation: with its prefix. A word that replaces an unknown one counts as the unknown piece does.
        shares: [T] of `copied_shares`, without end-of-sentence.
    """
    words = words_of(translation.text, language)
    own: list[list[float]] = [[] for _ in words]
    numbers_of = target_words(vocabularies, translation.tokens, language, translation.replaced)
    of_pieces = zip(numbers_of, shares.tolist(), strict=True)
    for numbers, share in itertools.islice(of_pieces, translation.prefix_pieces, None):
        for number in numbers:
            own[number].append(share)
    copied = [False, *(sum(values) > MOSTLY * len(values) for values in own), False]
    marked = [
        f"{'[' * (is_copied and not before)}{word}{']' * (is_copied and not after)}"
        for word, before, is_copied, after in zip(words, copied, copied[1:], copied[2:], strict=False)
    ]
    return ("" if is_unspaced(language) else " ").join(marked)
