"""Train a decoder on the encoder of a finished run, whose weights do not move: the settings key `frozen_encoder`.

What a fresh decoder makes of the vector that another run's encoder has learnt to write was in the vector, whatever the
decoder of that run made of it. What a decoder trained together with its encoder gets beyond that was not put in.
"""

from hourglass.config.differences import differences
from hourglass.config.options import Config
from hourglass.data.tokenizer import Vocabularies
from hourglass.errors import UserError
from hourglass.models.checkpoint import read_checkpoint
from hourglass.models.encoder import BlindEncoder, Encoder
from hourglass.models.seq2seq import Seq2Seq
from hourglass.runs.folder import open_run
from hourglass.training.resuming import check_data

FROZEN_ENCODER = "frozen_encoder"
# Of an encoder's weights in a checkpoint.
_PREFIX = "model.encoder."


def has_frozen_encoder(config: Config) -> bool:
    """Whether the encoder of a run is that of another; it is not in runs of versions without the option."""
    return config.get(FROZEN_ENCODER) is not None


def check_frozen_encoder(config: Config) -> None:
    """Check, before the data are prepared, that a run can have the encoder of the one that `frozen_encoder` names.

    Raises:
        UserError: that run is missing or not finished, has another encoder, or one without weights.
    """
    if not has_frozen_encoder(config):
        return
    option = f"{FROZEN_ENCODER}={config[FROZEN_ENCODER]}"
    run, before = open_run(str(config[FROZEN_ENCODER]), FROZEN_ENCODER)
    if config["encoder"]["name"] == BlindEncoder.name:
        raise UserError(f"{option} with encoder=blind, which has no weights: set encoder={before['encoder']['name']}")
    if differing := differences(before["encoder"], config["encoder"]):
        wanted = " ".join(f"encoder.{name}={_word(before['encoder'].get(name))}" for name in differing)
        raise UserError(f"{option}: has another encoder: set {wanted}")
    if not run.metrics.is_file() or not run.best.is_file():
        raise UserError(f"{option}: not finished: resume={config[FROZEN_ENCODER]} finishes it")


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


def freeze(encoder: Encoder) -> None:
    """Put an encoder in evaluation mode, and ask for no gradients of its weights."""
    encoder.requires_grad_(False)
    encoder.eval()
