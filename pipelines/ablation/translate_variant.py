"""Translate dev and test with a variant: python pipelines/ablation/translate_variant.py CORPUS VARIANT SEED"""

from hourglass.config.command_line import one_line_errors
from hourglass.decoding.translate import translate_split
from hourglass.errors import UserError
from hourglass.experiments.ablation import Ablation, read_stage
from hourglass.runs.translations import rows_of, write_translations
from hourglass.training.finished import FinishedRun
from hourglass.training.preparation import prepare
from hourglass.training.settings import check_settings


def main(ablation: Ablation, corpus: str, name: str, seed: str) -> None:
    """Write the translations of the checkpoint that was best on dev."""
    variant = ablation.variant(corpus, name)
    number = ablation.seed(variant, seed)
    run = FinishedRun.open(ablation.run(variant, number).path)
    # Not those to read by: translate on its own device.
    trained, settings = run.trained, check_settings(run.config, trains=False)
    prepared = prepare(run.config, settings)
    for part, value, wanted in (
        ("tokenizer", trained.vocabularies.digest, prepared.vocabularies.digest),
        ("corpus", trained.corpus_digest, prepared.corpus.digest),
        ("attention", trained.config["attention"], ablation.compose(ablation.variant_overrides[name])["attention"]),
    ):
        if value != wanted:
            raise UserError(
                f"{run.folder.best}: its {part} is not that of the ablation: remove {run.path}, then run dvc repro"
            )
    for part in ("dev", "test"):
        split = prepared.corpus.splits[part]
        hypotheses = translate_split(trained, split, settings.search, settings.trainer.device, part)
        write_translations(ablation.translations(variant, number, part), rows_of(split, hypotheses))


if __name__ == "__main__":
    with one_line_errors():
        main(*read_stage("CORPUS", "VARIANT", "SEED"))
