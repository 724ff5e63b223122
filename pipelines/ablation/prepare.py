"""Prepare a corpus of the ablation, and count leaks and overlap: python pipelines/ablation/prepare.py CORPUS"""

from collections import Counter

import numpy as np

from hourglass.analysis.evaluation import SCHEMA_VERSION, CorpusFacts, TokenizerFacts
from hourglass.config.command_line import one_line_errors
from hourglass.corpora.corpus import check_leaks
from hourglass.corpora.overlap import OVERLAP_VERSION, corpus_overlap
from hourglass.corpora.recipe import SPLITS
from hourglass.experiments.ablation import Ablation, read_stage
from hourglass.system.records import write_record
from hourglass.training.preparation import prepare
from hourglass.training.settings import check_settings


def main(ablation: Ablation, corpus: str) -> None:
    """Fill the corpus's cache, and write the corpus in numbers and what its sentences share with train."""
    ablation.check_corpus(corpus)
    config = ablation.compose([*ablation.data_overrides(corpus), "logger=csv"])
    prepared = prepare(config, check_settings(config, trains=False))
    splits = {split: prepared.splits[split] for split in SPLITS}
    vocabularies, overlap = prepared.vocabularies, corpus_overlap(prepared.corpus)
    facts = CorpusFacts(
        **prepared.corpus.facts.present(),
        digest=prepared.corpus.digest,
        leaks=check_leaks(prepared.corpus),
        tokenizer=TokenizerFacts(vocabularies.digest, vocabularies.target.size, vocabularies.joint),
        target_tokens={split: encoded.loss_tokens(np.arange(len(encoded))) for split, encoded in splits.items()},
        source_words_of_test=dict(sorted(Counter(prepared.corpus.splits["test"]["source_words"]).items())),
        overlap=overlap.facts,
    )
    write_record(ablation.overlap_file(corpus), overlap, OVERLAP_VERSION)
    write_record(ablation.facts_file(corpus), facts, SCHEMA_VERSION)


if __name__ == "__main__":
    with one_line_errors():
        main(*read_stage("CORPUS"))
