"""Train a decoder on the encoder of a finished run, whose weights do not move: the settings key `frozen_encoder`.

What a fresh decoder makes of the vector that another run's encoder has learnt to write was in the vector, whatever the
decoder of that run made of it. What a decoder trained together with its encoder gets beyond that was not put in.

The components of a trained vector may be many times larger than what a fresh decoder's first weights are made for, and
it would then learn to read them badly. So they are standardised: a change of units, which neither adds nor takes
information.

Shapes: B batch, D summary.
"""

import numpy as np
import torch

from hourglass.config.differences import differences, known_to
from hourglass.config.options import Config
from hourglass.corpora.sampling import evenly_spaced
from hourglass.data.batches import Part, join_at_random
from hourglass.data.encoded import EncodedSplit
from hourglass.data.tokenizer import CORPUS_OPTION, PIECES_OPTION, Vocabularies
from hourglass.errors import UserError
from hourglass.models.checkpoint import read_checkpoint
from hourglass.models.encoder import BlindEncoder, Encoder
from hourglass.models.seq2seq import Seq2Seq
from hourglass.models.summary import SummaryProjection
from hourglass.runs.folder import open_run
from hourglass.training.resuming import check_data

FROZEN_ENCODER = "frozen_encoder"
# Of an encoder's weights in a checkpoint.
_PREFIX = "model.encoder."
# Training sentences that the components of the summary are standardised on, and how many of them are read at once.
_SAMPLE, _ROWS_AT_ONCE = 2000, 100
# Settings of corpus and tokenizer that leave pairs and pieces as they are: the order of the batches, where files lie.
_NO_OTHER_DATA = ("data.curriculum", *(f"data.{name}" for name in ("folder", "path", "train", "dev", "test")))


def has_frozen_encoder(config: Config) -> bool:
    """Whether the encoder of a run is that of another; it is not in runs of versions without the option."""
    return config.get(FROZEN_ENCODER) is not None


def check_frozen_encoder(config: Config) -> None:
    """Check, before the data are prepared, that a run can have the encoder of the one that `frozen_encoder` names.

    Raises:
        UserError: that run is missing or not finished, has another encoder, or one without weights, or another corpus
            or vocabulary.
    """
    if not has_frozen_encoder(config):
        return
    option = f"{FROZEN_ENCODER}={config[FROZEN_ENCODER]}"
    run, before = open_run(str(config[FROZEN_ENCODER]), FROZEN_ENCODER)
    if config["encoder"]["name"] == BlindEncoder.name:
        raise UserError(f"{option} with encoder=blind, which has no weights: set encoder={before['encoder']['name']}")
    if differing := differences(before["encoder"], config["encoder"]):
        wanted = [f"encoder.{name}={_word(before['encoder'].get(name))}" for name in differing]
        if "name" in differing:  # The choice brings the keys of that encoder, and takes those of the other away.
            of_choice = known_to(before["encoder"], [name for name in differing if name != "name"])
            wanted = [f"encoder.{name}={_word(before['encoder'][name])}" for name in of_choice]
            wanted.insert(0, f"encoder={before['encoder']['name']}")
        raise UserError(f"{option}: has another encoder: set {' '.join(wanted)}")
    if other := _other_data(before, config):
        raise UserError(f"{option}: has another corpus or vocabulary: set {' '.join(other)}")
    if not run.metrics.is_file() or not run.best.is_file():
        raise UserError(f"{option}: not finished: resume={config[FROZEN_ENCODER]} finishes it")


def _other_data(before: Config, config: Config) -> list[str]:
    """Return the words that give a run the pairs and pieces of the one before; none where nothing is known to differ.

    An option that a later version added is as its behaviour was before. Files may lie elsewhere: what they hold is
    compared when they are read.
    """
    if before["data"]["name"] != config["data"]["name"]:
        return [f"data={before['data']['name']}"]
    own, its = ({group: settings[group] for group in ("data", "tokenizer")} for settings in (config, before))
    names = [name for name in known_to(its, differences(its, own)) if name not in _NO_OTHER_DATA]
    if CORPUS_OPTION in names:  # The tokenizer's follows it.
        names = [name for name in names if name != PIECES_OPTION]
    return [f"{name}={_word(its[name.split('.')[0]][name.split('.')[1]])}" for name in names]


def _word(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def copy_encoder(model: Seq2Seq, config: Config, vocabularies: Vocabularies, corpus_digest: str) -> None:
    """Copy the weights of the encoder, its embedding among them, from the run `frozen_encoder`.

    Args:
        model: to train, with its initial weights.
        config: its settings.
        vocabularies: its vocabularies.
        corpus_digest: digest of its corpus.

    Raises:
        UserError: the checkpoint is missing or damaged, of another tokenizer or corpus, or its encoder has another
            shape.
    """
    path = open_run(str(config[FROZEN_ENCODER]), FROZEN_ENCODER)[0].best
    content = read_checkpoint(path)
    check_data(path, content["hourglass"], vocabularies, corpus_digest, "give both runs the same data")
    weights = {
        name.removeprefix(_PREFIX): weight for name, weight in content["state_dict"].items() if name.startswith(_PREFIX)
    }
    own = model.encoder.state_dict()
    if {name: weight.shape for name, weight in own.items()} != {name: each.shape for name, each in weights.items()}:
        raise UserError(
            f"{path}: its encoder has other weights ({', '.join(sorted(own.keys() ^ weights.keys())) or 'shapes'}), "
            "as decoder.start or attention decides whether there is a summary: give both runs the same decoder.start"
        )
    model.encoder.load_state_dict(weights)


@torch.no_grad()
def standardise_summary(encoder: Encoder, train: EncodedSplit, joined: int) -> None:
    """Give each component of the summary mean 0 and standard deviation 1 over training sentences.

    The change goes into the weights of the layer that makes the summary. A component that does not vary stays as it is.
    So does the summary of an encoder without such a layer: a tanh is of this size, and final states are a state.

    Args:
        encoder: with the weights of a finished run.
        train: its training split.
        joined: the largest number of pairs that a training sentence is joined from.
    """
    layer = getattr(encoder, "summarise", None)
    if not isinstance(layer, SummaryProjection) or layer.tanh:
        return
    training = encoder.training
    encoder.eval()
    sentences = np.arange(len(train)) if joined == 1 else join_at_random(len(train), joined, np.random.default_rng(0))
    rows = sentences[evenly_spaced(len(sentences), _SAMPLE)]
    parts = np.array_split(rows, -(-len(rows) // _ROWS_AT_ONCE))
    batches = [train[Part(part, step_tokens=0)] for part in parts]
    summaries = torch.cat([encoder(batch.source, batch.source_lengths).summary for batch in batches])  # [rows, D]
    encoder.train(training)
    mean, spread = summaries.mean(0), summaries.std(0, correction=0)
    varies = spread > 0
    scale = torch.where(varies, 1 / spread, torch.ones_like(spread))
    layer.weight.mul_(scale.unsqueeze(1))
    layer.bias.copy_(torch.where(varies, (layer.bias - mean) * scale, layer.bias))


def freeze(encoder: Encoder) -> None:
    """Put an encoder in evaluation mode, and ask for no gradients of its weights."""
    encoder.requires_grad_(False)
    encoder.eval()
