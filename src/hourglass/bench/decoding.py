"""Measure decoding: sentences a second, and agreement with the plain search."""

import functools
import itertools
import logging
import math
import statistics
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from hourglass.bench.clock import count_operations, step_rate
from hourglass.bench.measurements import DECODING, SEARCH, print_measurement
from hourglass.bench.plain_search import plain_beam_search
from hourglass.bench.settings import SOURCE_LENGTH, BenchSettings, run_between
from hourglass.bench.training import train_quietly
from hourglass.config.compose import compose_settings
from hourglass.config.options import build
from hourglass.corpora.sampling import evenly_spaced
from hourglass.data.encoded import pad
from hourglass.data.pieces import EOS
from hourglass.decoding.precision import PRECISIONS, SearchPrecision, in_precision
from hourglass.decoding.search import SearchSettings, search
from hourglass.decoding.translate import translate
from hourglass.errors import UserError
from hourglass.metrics.translation import bleu
from hourglass.models.checkpoint import Trained, load_trained
from hourglass.models.seq2seq import Seq2Seq
from hourglass.runs.folder import open_run
from hourglass.system.commands import path_override
from hourglass.training.preparation import folder_override, prepare
from hourglass.training.settings import check_to_read

log = logging.getLogger(__name__)

TEST_SET = "test_2016_flickr"


class DecodingTask(NamedTuple):
    """A trained model, the source sentences it translates, and the searches to measure, by name."""

    trained: Trained
    sources: list[str]
    searches: dict[str, SearchSettings]


def train_decoding_model(settings: BenchSettings, folder: str, path: str) -> None:
    """Train the model that decodes: the first variant at the largest decoder size.

    Args:
        settings: conf/bench.yaml.
        folder: the raw files of Multi30k.
        path: the run folder to write.
    """
    overrides = [*settings.overrides_of(settings.first_variant, max(settings.decoder_sizes)), f"data.test={TEST_SET}"]
    train_quietly(
        *overrides,
        folder_override(folder, overrides),
        f"trainer.target_tokens={settings.decoding_target_tokens}",
        "trainer.select=loss",
        f"trainer.threads={settings.threads}",
        "logger=csv",
        path_override("run_dir", Path(path)),
    )


def open_decoding_run(settings: BenchSettings, folder: str, path: str) -> DecodingTask:
    """Load the model of a run, and the source sentences of test_2016_flickr.

    Args:
        settings: conf/bench.yaml.
        folder: the raw files of Multi30k.
        path: the run folder that `train_decoding_model` has written.

    Raises:
        UserError: the run has another corpus or model.
    """
    run, config = open_run(path, "run")
    remedy = "train the model with bench.py model FOLDER RUN"
    if config["data"]["name"] != "multi30k":
        raise UserError(f"{path}: a run with data={config['data']['name']}, not data=multi30k: {remedy}")
    expected = compose_settings(settings.overrides_of(settings.first_variant, max(settings.decoder_sizes)))
    groups = ("tokenizer", "encoder", "attention", "decoder")
    if different := [group for group in groups if config[group] != expected[group]]:
        raise UserError(f"{path}: its settings of {', '.join(different)} are not those of conf/bench.yaml: {remedy}")
    config["data"] |= {"folder": folder, "test": TEST_SET}
    checked, trained = check_to_read(config), load_trained(run.best)
    sources = list(prepare(config, checked).corpus.splits["test"]["source"])
    return DecodingTask(trained, sources, _searches(checked.search))


def _searches(settings: SearchSettings) -> dict[str, SearchSettings]:
    """Return a greedy search and one with beam 5 in float32, by name."""
    plain = replace(settings, precision=32)
    return {"greedy": plain.greedy, "beam 5": build(SearchSettings, vars(plain) | {"beam": 5}, "search")}


def measure_decoding(settings: BenchSettings, folder: str, path: str) -> None:
    """Measure sentences a second of translating test_2016_flickr, without the start.

    Both searches take turns, each in all precisions that this machine has.

    Args:
        settings: conf/bench.yaml.
        folder: the raw files of Multi30k.
        path: the run folder of the model that decodes.
    """
    task = open_decoding_run(settings, folder, path)
    count = len(task.sources)
    kinds = list(itertools.product(task.searches, _models_by_precision(task.trained.model).items()))
    speeds: dict[tuple[str, SearchPrecision], list[float]] = defaultdict(list)
    rates: dict[tuple[str, SearchPrecision], list[float]] = defaultdict(list)
    pieces = {}
    for name, (precision, model) in kinds:
        _translate_all(task, model, replace(task.searches[name], precision=precision))  # Warm-up.
    for _ in range(settings.rounds):
        for name, (precision, model) in kinds:
            options = replace(task.searches[name], precision=precision)
            rows = options.batch_tokens // SOURCE_LENGTH
            rates[name, precision].append(step_rate(settings.seconds, rows, max(settings.decoder_sizes)))
            started = time.perf_counter()
            translations = _translate_all(task, model, options)
            speeds[name, precision].append(count / (time.perf_counter() - started))
            pieces[name, precision] = sum(map(len, task.trained.vocabularies.target.encode(translations))) / count
            run_between(settings, f"{DECODING}{name}", _precision_name(precision))
    # That of float32, in all precisions: it is counted by torch's products.
    work = {
        name: count_operations(functools.partial(_translate_all, task, task.trained.model, options)) / count
        for name, options in task.searches.items()
    }
    for (name, precision), values in speeds.items():
        print_measurement(
            f"{DECODING}{name}",
            statistics.median(values),
            "sentences/s",
            all=values,
            precision=_precision_name(precision),
            pieces=pieces[name, precision],
            run=path,
            work=work[name],
            **({"between": settings.between} if settings.between else {}),
            step_rates=rates[name, precision],
        )


def _precision_name(precision: SearchPrecision) -> str:
    """Return the name of a search's precision beside those of trainings."""
    return "32-true" if precision == 32 else str(precision)


def _models_by_precision(model: Seq2Seq) -> dict[SearchPrecision, Seq2Seq]:
    """Return a model in each precision that this machine and the model have."""
    models: dict[SearchPrecision, Seq2Seq] = {}
    for precision in PRECISIONS:
        try:
            models[precision] = in_precision(model, precision)
        except UserError as error:
            log.warning("not measured: %s", error)
    return models


def _translate_all(task: DecodingTask, model: Seq2Seq, options: SearchSettings) -> list[str]:
    return list(translate(model, task.trained.vocabularies, task.sources, options))


def measure_searches(settings: BenchSettings, path: str) -> None:
    """Measure sentences a second and BLEU of a run's test set, for each precision that this machine has.

    The precisions take turns, and each round compares their seconds with those of float32 just before.

    Args:
        settings: conf/bench.yaml.
        path: the run folder, of any corpus.
    """
    run, config = open_run(path, "run")
    checked, trained = check_to_read(config), load_trained(run.best)
    corpus = prepare(config, checked).corpus
    test = corpus.splits["test"]
    test = test.select(evenly_spaced(len(test), settings.search_sentences))
    sources, references = list(test["source"]), list(test["target"])
    models = _models_by_precision(trained.model)
    for name, options in _searches(checked.search).items():
        translations: dict[SearchPrecision, list[str]] = {}
        seconds: dict[SearchPrecision, list[float]] = {precision: [] for precision in models}
        for turn in range(settings.rounds + 1):
            for precision, model in models.items():
                started = time.perf_counter()
                lines = translate(model, trained.vocabularies, sources, replace(options, precision=precision))
                translations[precision] = list(lines)
                if turn:  # The first is a warm-up.
                    seconds[precision].append(time.perf_counter() - started)
        for precision, own in seconds.items():
            ratios = [plain / reduced for plain, reduced in zip(seconds[32], own, strict=True)]
            pairs = zip(translations[32], translations[precision], strict=True)
            print_measurement(
                f"{SEARCH}{config['data']['name']}, {name}: {precision}",
                len(sources) / statistics.median(own),
                "sentences/s",
                all=[len(sources) / each for each in own],
                ratio=statistics.median(ratios),
                ratios=ratios,
                bleu=bleu(translations[precision], references, corpus.target_language),
                equal=sum(one == other for one, other in pairs) / len(sources),
                sentences=len(sources),
                decoder=trained.model.decoder.hidden_size,
                run=path,
            )


def measure_agreement(settings: BenchSettings, folder: str, path: str) -> None:
    """Measure for how many test sentences `search` returns the result of the plain search, in float64.

    Args:
        settings: conf/bench.yaml.
        folder: the raw files of Multi30k.
        path: the run folder of the model that decodes.
    """
    trained, sources, searches = open_decoding_run(settings, folder, path)
    model = trained.model.double()
    every = math.ceil(len(sources) / settings.exact_sentences)
    ids = [[*row, EOS] for row in trained.vocabularies.source.encode(sources[::every])]
    lengths = torch.tensor([len(row) for row in ids])
    batch = pad(ids)
    for name, options in searches.items():
        equal = sum(
            hypothesis.tokens
            == plain_beam_search(model, source, options.limit(len(row)), options.beam, options.length_penalty).tokens
            for hypothesis, source, row in zip(search(model, batch, lengths, options), batch, ids, strict=True)
        )
        print_measurement(
            f"translated as by the plain search, {name}", equal / len(ids), "share", sentences=len(ids), run=path
        )
