"""Translate dev and test by a trained variant: python pipelines/ablation/translate_variant.py CORPUS ATTENTION SEED"""

from hourglass.config.command_line import arguments, one_line_errors
from hourglass.decoding.translate import translate_split
from hourglass.errors import UserError
from hourglass.experiments.ablation import load_ablation
from hourglass.models.checkpoint import load_trained
from hourglass.runs.folder import open_run
from hourglass.runs.translations import write_translations
from hourglass.training.preparation import prepare
from hourglass.training.settings import check_settings


def main(corpus: str, attention: str, seed: str) -> None:
    """Write the translations of the checkpoint that was best on dev."""
    ablation = load_ablation()
    variant = ablation.variant(corpus, attention)
    number = ablation.seed(corpus, seed)
    run, config = open_run(str(ablation.run(variant, number).path), "run")
    settings = check_settings(config)
    trained = load_trained(run.best)
    prepared = prepare(config, settings)
    made = ablation.compose([f"attention={attention}"])
    for what, one, other in (
        ("tokenizer", trained.vocabularies.digest, prepared.vocabularies.digest),
        ("corpus", trained.corpus_digest, prepared.corpus.digest),
        ("attention", trained.config["attention"], made["attention"]),
    ):
        if one != other:
            raise UserError(
                f"{run.best}: a checkpoint of another {what} than the ablation's: remove {run.path}, then dvc repro"
            )
    splits = prepared.corpus.splits
    for name in ("dev", "test"):
        split = splits[name]
        found = translate_split(trained, split, settings.search, settings.trainer.device, name)
        rows = zip(split["id"], split["source"], split["target"], found, strict=True)
        write_translations(ablation.translations(variant, number, name), rows)


if __name__ == "__main__":
    with one_line_errors():
        main(*arguments("CORPUS", "ATTENTION", "SEED"))
