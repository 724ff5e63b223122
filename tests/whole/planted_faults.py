"""Plant single faults in a copy of the sources, and say which ones no test notices.

    python tests/whole/planted_faults.py [WORD ...]

runs the faults whose names have one of the words, all without. For each, a line is printed: killed, by which test, or
SURVIVED. The exit status is 1 if one survived. Each fault is of the wiring: an option, a rule or a choice on its way
into training, evaluation, sweeps or reports is lost, or another one is taken. Only the tests that stand beside a fault
are run for it, which takes seconds; the one that fails is run once more without any fault.

mutmut and cosmic-ray plant by patterns of syntax (each operator, number, name and argument), thousands a module, and
most of those are arithmetic, which the tests of equations hold. Which lines are wiring, and what a plausible wrong
choice is, only a reader of the code can say.
"""

import compileall
import contextlib
import gc
import importlib
import io
import os
import py_compile
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
# Seconds that the tests of one fault may take; a fault may make a test wait for ever, which is noticed too.
LIMIT = 600
LIBRARIES = (
    *("datasets", "hydra", "hypothesis", "markdown_it", "matplotlib.pyplot", "mlflow.data.meta_dataset"),
    *("mlflow.pyfunc", "mlflow.store.tracking.sqlalchemy_store", "optuna.storages._rdb.storage", "psutil", "pytest"),
    *("pytest_timeout", "pytorch_lightning", "sacrebleu", "scipy.stats", "sentencepiece", "xdist.plugin"),
)


class Fault(NamedTuple):
    """A fault that may be planted.

    Attributes:
        name: what is wrong.
        file: below the project's folder.
        old: text that the file has once.
        new: what takes its place.
        tests: words for pytest: files or single tests that should notice it.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str


PACKAGE = "src/hourglass"
WIRING, TRAIN = "tests/training/test_wiring.py", "tests/whole/test_train.py"
EVALUATION, COMPARING = "tests/experiments/test_evaluation.py", "tests/analysis/test_comparing.py"
SIGNIFICANCE, SATURATION = "tests/metrics/test_significance.py", "tests/metrics/test_saturation.py"
COMPARABILITY = "tests/analysis/test_comparability.py"
BATCHES, NULLED = "tests/data/test_batches.py", "tests/metrics/test_nulled.py"
CELLS = "tests/models/test_parallel_cells.py"
ENCODER = "tests/models/test_encoder.py"
TRIALS, BITS = "tests/sweeps/test_trials.py", "tests/analysis/test_bits.py"

PREFIXES = "tests/training/test_prefixes.py"

FAULTS = (
    # ---- Training ----------------------------------------------------------------------------------------------------
    Fault(
        "the training loss counts the prefix",
        f"{PACKAGE}/models/seq2seq.py",
        "labels = without_prefixes(labels, prefix_lengths)",
        "pass",
        f"tests/metrics/test_likelihood.py {PREFIXES} -k prefix",
    ),
    Fault(
        "the budget counts prefixes",
        f"{PACKAGE}/training/preparation.py",
        'prefix_lengths=splits["train"].prefix_lengths,',
        "prefix_lengths=None,",
        f"{PREFIXES} -k losses",
    ),
    Fault(
        "test is translated without the prefixes",
        f"{PACKAGE}/decoding/translate.py",
        "prefixes=prefixes_of(split),",
        "prefixes=None,",
        f"{PREFIXES} -k translations",
    ),
    Fault(
        "a recall reading leaves out the number of entries",
        f"{PACKAGE}/analysis/channel.py",
        "return ChannelReading(lengths, lengths * gained,",
        "return ChannelReading(lengths, gained,",
        "tests/analysis/test_channel.py -k state",
    ),
    Fault(
        "label smoothing is lost",
        f"{PACKAGE}/training/module.py",
        "trainer_settings, smoothing = self.settings.trainer, self.settings.optimizer.label_smoothing",
        "trainer_settings, smoothing = self.settings.trainer, 0.0",
        f"{WIRING} -k smoothing",
    ),
    Fault(
        "every step has the same dropout mask",
        f"{PACKAGE}/training/module.py",
        "1_000_000_007 + ticket + self.global_rank",
        "1_000_000_007 + self.global_rank",
        f"{WIRING} -k mask",
    ),
    Fault(
        "dropout does not follow the seed",
        f"{PACKAGE}/training/module.py",
        'self.config["seed"] * 1_000_000_007',
        "1_000_000_007",
        f"{WIRING} -k dropout",
    ),
    Fault(
        "scheduled sampling stays 0",
        f"{PACKAGE}/training/module.py",
        "trainer_settings.scheduled_sampling * self.global_step / self.steps",
        "0.0",
        f"{WIRING} -k sampling",
    ),
    Fault(
        "no source is nulled",
        f"{PACKAGE}/training/preparation.py",
        "null_source=settings.trainer.null_source,",
        "null_source=0.0,",
        f"{WIRING} -k without_source",
    ),
    Fault(
        "every step nulls the same places of a batch",
        f"{PACKAGE}/data/batches.py",
        "[self.seed, step, NULLED_STREAM]",
        "[self.seed, NULLED_STREAM]",
        f"{BATCHES} -k nulled",
    ),
    Fault(
        "nulled sources do not follow the seed",
        f"{PACKAGE}/data/batches.py",
        "[self.seed, step, NULLED_STREAM]",
        "[0, step, NULLED_STREAM]",
        f"{BATCHES} -k nulled",
    ),
    Fault(
        "each part nulls the places of the first",
        f"{PACKAGE}/data/batches.py",
        "nulled[own])",
        "nulled[: len(share)])",
        f"{BATCHES} -k nulled",
    ),
    Fault(
        "a nulled source keeps its length",
        f"{PACKAGE}/data/encoded.py",
        "source = [each[:0] if nulled",
        "source = [0 * each if nulled",
        f"{BATCHES} -k nulled",
    ),
    Fault(
        "a blind model may have its source nulled",
        f"{PACKAGE}/training/settings.py",
        "if settings.trainer.null_source and isinstance(model.encoder, BlindEncoder):",
        "if settings.trainer.null_source > 1 and isinstance(model.encoder, BlindEncoder):",
        "tests/whole/test_configs.py -k nulled",
    ),
    Fault(
        "a run that has read all its sources is read with nulled ones",
        f"{PACKAGE}/analysis/nulled.py",
        "    check_nulled(str(run.path), run.config)\n",
        "",
        f"{NULLED} -m slow -k no_such_bits",
    ),
    Fault(
        "the temperature without source is that with source",
        f"{PACKAGE}/analysis/likelihoods.py",
        "temperature = best_temperature(run, trained, without_sources(dev))",
        "temperature = best_temperature(run, trained, dev)",
        f"{NULLED} -m slow -k temperature",
    ),
    Fault(
        "bits with nulled sources are of sources",
        f"{PACKAGE}/analysis/likelihoods.py",
        "reference_nats(trained.model, without_sources(test), temperature=temperature)",
        "reference_nats(trained.model, test, temperature=temperature)",
        f"{NULLED} -m slow -k comparison",
    ),
    Fault(
        "bits by word count the end of the sentence",
        f"{PACKAGE}/analysis/bits.py",
        "own.sentences - own.ends, words",
        "own.sentences, words",
        f"{NULLED} -m slow -k comparison",
    ),
    Fault(
        "parts of a step are not averaged",
        f"{PACKAGE}/training/module.py",
        "parts = self.trainer.world_size * self.trainer.accumulate_grad_batches",
        "parts = self.trainer.world_size",
        f"{TRAIN} -k accumulation -m 'not more'",
    ),
    Fault(
        "the schedule does not advance",
        f"{PACKAGE}/training/module.py",
        '"scheduler": schedule, "interval": "step"',
        '"scheduler": schedule, "interval": "epoch"',
        f"{TRAIN} {WIRING} -k 'points or rate'",
    ),
    Fault(
        "dev is scored as English",
        f"{PACKAGE}/training/module.py",
        "metric.total(hypotheses, self.dev_references, self.dev_sources)",
        'type(metric)("en").total(hypotheses, self.dev_references, self.dev_sources)',
        f"{WIRING} -k language",
    ),
    Fault(
        "test is scored as English",
        f"{PACKAGE}/training/settings.py",
        'make_metrics(config["metrics"], str(config["data"].get("target")))',
        'make_metrics(config["metrics"], "en")',
        f"{WIRING} -k language",
    ),
    Fault(
        "the model with the most errors is the best",
        f"{PACKAGE}/training/saving.py",
        "self.metric.rank(dev[self.metric.name])",
        "dev[self.metric.name]",
        f"{WIRING} -k best",
    ),
    Fault(
        "early stopping waits for more errors",
        f"{PACKAGE}/training/fit.py",
        '"max" if main.higher_is_better else "min"',
        '"max"',
        f"{WIRING} -k patience",
    ),
    Fault(
        "further references do not count",
        f"{PACKAGE}/corpora/corpus.py",
        "return [(target, *others) for target, others in",
        "return [(target,) for target, others in",
        "tests/corpora/test_pronunciations.py",
    ),
    Fault(
        "homophones are leaks",
        f"{PACKAGE}/corpora/cleaning.py",
        "for side in recipe.leak_sides}",
        "for side in sides}",
        "tests/corpora/test_scan.py",
    ),
    Fault(
        "a source of features has an end-of-sentence",
        f"{PACKAGE}/data/sources.py",
        "return max(1, len(source)) if is_features(source)",
        "return 1 + len(source) if is_features(source)",
        "tests/corpora/test_feature_files.py",
    ),
    Fault(
        "features in reverse keep their last region",
        f"{PACKAGE}/models/encoder.py",
        "lengths if source.is_floating_point() else lengths - 1",
        "lengths - 1",
        "tests/models/test_feature_inputs.py -k reverse",
    ),
    Fault(
        "a loop's weight does not find the rows of its backward pass",
        f"{PACKAGE}/models/loop_weights.py",
        "self._by_pass.setdefault(torch._C._current_graph_task_id(), [])",
        "self._by_pass.setdefault(0, [])",
        "tests/models/test_loop_weights.py",
    ),
    Fault(
        "the penalty counts padding",
        f"{PACKAGE}/models/loss.py",
        "((1 - looks) ** 2 * mask).sum()",
        "((1 - looks) ** 2).sum()",
        "tests/models/test_feature_inputs.py -k penalty",
    ),
    Fault(
        "a scene may come twice",
        f"{PACKAGE}/corpora/shapes.py",
        "while (scene := draw_scene(shapes, random)) in drawn:",
        "while (scene := draw_scene(shapes, random)) in ():",
        "tests/corpora/test_shapes.py -k exhaust",
    ),
    Fault(
        "dev is translated by the beam of the settings",
        f"{PACKAGE}/training/module.py",
        "self.greedy = settings.search.greedy",
        "self.greedy = settings.search",
        f"{WIRING} {TRAIN} -k 'dev' -m 'not more'",
    ),
    Fault(
        "greedy search samples",
        f"{PACKAGE}/decoding/search.py",
        "replace(self, beam=1, temperature=0.0, ",
        "replace(self, beam=1, ",
        f"{WIRING} tests/decoding/test_search.py -k greedy",
    ),
    Fault(
        "the first weights do not have the range of the settings",
        f"{PACKAGE}/training/run.py",
        'if width := job.config["init_range"]:',
        "if width := 0.0:",
        f"{WIRING} -k range",
    ),
    Fault(
        "the first weights do not follow the seed",
        f"{PACKAGE}/training/run.py",
        'torch.manual_seed(job.config["seed"])',
        "torch.manual_seed(1)",
        f"{WIRING} -k seed",
    ),
    Fault(
        "pretrained embeddings are not read",
        f"{PACKAGE}/training/run.py",
        "        fill_embeddings(model, job.config, prepared.vocabularies)",
        "        pass",
        "tests/models/test_pretrained.py",
    ),
    Fault(
        "all of dev is read at a validation",
        f"{PACKAGE}/training/run.py",
        "dev_sentences=settings.trainer.dev_sentences,",
        "dev_sentences=0,",
        f"{WIRING} {TRAIN} -k dev -m 'not more'",
    ),
    Fault(
        "a run of other code is continued",
        f"{PACKAGE}/training/run.py",
        'code = None if if_exists == "refuse" or job.config.get("fingerprint") else CODE',
        "code = None",
        f"{TRAIN} -k continued -m 'not more'",
    ),
    Fault(
        "no step is clipped",
        f"{PACKAGE}/training/fit.py",
        "gradient_clip_val=module.settings.optimizer.clip_norm or None",
        "gradient_clip_val=None",
        f"{TRAIN} -k clipped",
    ),
    Fault(
        "patience waits for a higher loss",
        f"{PACKAGE}/training/fit.py",
        'monitor, mode = f"dev/{smoothed}loss", "min"',
        'monitor, mode = f"dev/{smoothed}loss", "max"',
        f"{WIRING} {TRAIN} -k patience",
    ),
    Fault(
        "patience looks at BLEU whatever is selected by",
        f"{PACKAGE}/training/fit.py",
        "EarlyStopping(monitor, mode=mode,",
        'EarlyStopping("dev/bleu", mode=mode,',
        f"{WIRING} {TRAIN} -k patience",
    ),
    Fault(
        "patience has no effect",
        f"{PACKAGE}/training/fit.py",
        "    if settings.patience:\n",
        "    if False:\n",
        f"{TRAIN} -k patience",
    ),
    Fault(
        "trainings have full precision",
        f"{PACKAGE}/training/module.py",
        "in_bfloat16(self.model) if trainer_settings.casts_weights else nullcontext()",
        "nullcontext()",
        f"{WIRING} {TRAIN} -k precision",
    ),
    Fault(
        "validations do not count accumulated parts",
        f"{PACKAGE}/training/fit.py",
        "val_check_interval=data.stream.validate_every * settings.accumulate",
        "val_check_interval=data.stream.validate_every",
        f"{TRAIN} -k accumulation -m 'not more'",
    ),
    Fault(
        "the best model is the one with the best BLEU whatever is selected by",
        f"{PACKAGE}/training/saving.py",
        'if self.settings.select == "loss" else',
        "if not self.settings.select else",
        f"{WIRING} {TRAIN} -k best -m 'not more'",
    ),
    Fault(
        "test is translated by the last model",
        f"{PACKAGE}/training/outcome.py",
        "    trained = load_trained(job.run.best)\n    split",
        "    trained = load_trained(job.run.last)\n    split",
        f"{WIRING} -k searched",
    ),
    Fault(
        "all of test is translated",
        f"{PACKAGE}/training/outcome.py",
        "evenly_spaced(len(split), job.settings.trainer.test_sentences)",
        "evenly_spaced(len(split), 0)",
        f"{WIRING} -k searched",
    ),
    Fault(
        "test is translated greedily",
        f"{PACKAGE}/training/outcome.py",
        "    search = job.settings.search\n",
        "    search = job.settings.search.greedy\n",
        f"{WIRING} -k search",
    ),
    Fault(
        "test has other length buckets",
        f"{PACKAGE}/training/outcome.py",
        'edges=job.config["edges"],',
        "edges=[1, 11],",
        f"{WIRING} -k 'search or edges'",
    ),
    Fault(
        "the speed of a trial is that of greedy search",
        f"{PACKAGE}/training/outcome.py",
        "translate_split(trained, dev, job.settings.search, ",
        "translate_split(trained, dev, job.settings.search.greedy, ",
        f"{WIRING} -k searched",
    ),
    Fault(
        "batches are not shuffled",
        f"{PACKAGE}/data/batches.py",
        "        random.shuffle(batches)\n",
        "",
        "tests/data/test_batches.py -k order",
    ),
    Fault(
        "batches do not follow the seed",
        f"{PACKAGE}/training/preparation.py",
        'seed=config["seed"],',
        "seed=1,",
        f"{WIRING} -k seed",
    ),
    Fault(
        "batches have another size",
        f"{PACKAGE}/training/preparation.py",
        "batch_tokens=settings.trainer.batch_tokens,",
        "batch_tokens=2 * settings.trainer.batch_tokens,",
        f"{WIRING} -k budget",
    ),
    Fault(
        "a training has another budget",
        f"{PACKAGE}/training/preparation.py",
        "target_tokens=settings.trainer.target_tokens,",
        "target_tokens=settings.trainer.target_tokens // 2,",
        f"{WIRING} -k budget",
    ),
    Fault(
        "a training validates once",
        f"{PACKAGE}/training/preparation.py",
        "validations=settings.trainer.validations,",
        "validations=1,",
        f"{WIRING} -k budget",
    ),
    Fault(
        "a resumed training reads from the first batch",
        f"{PACKAGE}/training/datamodule.py",
        'self.first_step = state_dict["first_step"]',
        "self.first_step = 0",
        "tests/data/test_batches.py -k resumed",
    ),
    Fault(
        "Adam has its library's betas",
        f"{PACKAGE}/training/optimizer.py",
        "betas=(self.beta1, self.beta2), ",
        "",
        "tests/training/test_optimizer.py",
    ),
    Fault(
        "SGD has no momentum",
        f"{PACKAGE}/training/optimizer.py",
        ", momentum=self.momentum)",
        ")",
        "tests/training/test_optimizer.py",
    ),
    Fault(
        "Adadelta has its library's rho",
        f"{PACKAGE}/training/optimizer.py",
        "rho=self.rho, ",
        "",
        "tests/training/test_optimizer.py",
    ),
    Fault(
        "a graph reads the batch of its recording",
        f"{PACKAGE}/training/graphs.py",
        "            input_.copy_(values)\n",
        "            pass\n",
        "tests/training/test_graphs.py -k plain_steps",
    ),
    Fault(
        "a graph leaves the gradients of its recording",
        f"{PACKAGE}/training/graphs.py",
        "                torch._foreach_copy_(self.gradients, gradients)\n",
        "",
        "tests/training/test_graphs.py -k plain_steps",
    ),
    Fault(
        "gradients of a graph are not those of the loss that is differentiated",
        f"{PACKAGE}/training/graphs.py",
        "*torch._foreach_mul(ctx.owner.gradients, gradients[0])",
        "*ctx.owner.gradients",
        "tests/training/test_graphs.py -k plain_steps",
    ),
    # ---- Cells -------------------------------------------------------------------------------------------------------
    Fault(
        "a matrix memory reads padding",
        f"{PACKAGE}/models/parallel_cells.py",
        "inputs = self.read_inputs(wide, mask)",
        "inputs = self.read_inputs(wide, None)",
        f"{CELLS} -k whole_sequence",
    ),
    Fault(
        "the query before a step is an output at padding",
        f"{PACKAGE}/models/parallel_cells.py",
        "last = last_output(outputs, state[0], mask)",
        "last = last_output(outputs, state[0], None)",
        f"{CELLS} -k whole_sequence",
    ),
    Fault(
        "a chunk starts from the memory at the start of the sequence",
        f"{PACKAGE}/models/parallel_cells.py",
        "read, memory = self.advance_chunk(chunk, memory)",
        "read, _ = self.advance_chunk(chunk, memory)",
        f"{CELLS} -k whole_sequence",
    ),
    Fault(
        "two directions of a matrix are one after the other",
        f"{PACKAGE}/models/recurrent.py",
        "flat = [torch.cat(parts, -1).flatten(1) for",
        "flat = [torch.cat([part.flatten(1) for part in parts], -1) for",
        "tests/models/test_decoder.py -k every_part",
    ),
    Fault(
        "a width that heads cannot share is not refused in the encoder",
        f"{PACKAGE}/models/encoder.py",
        "directions=2 if self.bidirectional else 1)",
        "directions=1)",
        "tests/models/test_build.py -k name_option",
    ),
    Fault(
        "an mLSTM starts with a stabiliser of any size",
        f"{PACKAGE}/models/matrix_cells.py",
        "return (*state[:3], state[3].tanh())",
        "return state",
        f"{CELLS} -k bounded",
    ),
    # ---- Encoders and attention --------------------------------------------------------------------------------------
    *(
        Fault(name, f"{PACKAGE}/models/{file}.py", old, new, tests)
        for name, file, old, new, tests in (
            (
                "a mean of states counts padding",
                "summary",
                "states.masked_fill(~mask.unsqueeze(-1), 0).sum(1)",
                "states.sum(1)",
                f"{ENCODER} -k padding",
            ),
            (
                "a pooled summary is not rounded",
                "summary",
                "tanh=settings.summary_tanh, bits=settings.summary_bits",
                "tanh=settings.summary_tanh, bits=0",
                f"{ENCODER} -k rounded",
            ),
            (
                "a convolution reads what stands at padding",
                "convolution",
                "self.dropout(states).masked_fill(padding, 0)",
                "self.dropout(states)",
                f"{ENCODER} -k padding",
            ),
            (
                "rotary positions are sinusoidal",
                "transformer",
                'self.rotary = settings.positions == "rotary"',
                "self.rotary = False",
                f"{ENCODER} -k rotary",
            ),
            (
                "weights on screen are those of the first head",
                "attention",
                "weights.mean(1)",
                "weights[:, 0]",
                "tests/models/test_attention.py -k multi_head",
            ),
            (
                "an encoder's limit of source positions is not checked before a training",
                "seq2seq",
                "        self.encoder.check_length(longest, where)\n",
                "",
                "tests/models/test_seq2seq.py -k length",
            ),
        )
    ),
    # ---- Copies and coverage -----------------------------------------------------------------------------------------
    *(
        Fault(name, f"{PACKAGE}/{file}.py", old, new, f"tests/models/test_copying.py -k {words}")
        for name, file, old, new, words in (
            (
                "sentences that leave the search take the pieces of others with them",
                "decoding/search",
                "copyable = copyable and copyable.select(stay)",
                "pass",
                "'search and counts'",
            ),
            (
                "a beam has the coverage of another",
                "models/decoder",
                "self.coverage.index_select(0, index)",
                "self.coverage[: len(index)]",
                "'steps and coverage'",
            ),
            (
                "the coverage loss counts padding",
                "models/seq2seq",
                "(coverage_losses(weights) * real).sum()",
                "coverage_losses(weights).sum()",
                "equations_12",
            ),
            (
                "weights that sum to less than one are not divided by their sum",
                "models/seq2seq",
                "weights = weights / weights.sum(-1, keepdim=True)",
                "pass",
                "'equation_9 and local_p'",
            ),
            (
                "a vocabulary for each side is taken for one",
                "models/build",
                "check_copy(attention, decoder, joint=joint)",
                "check_copy(attention, decoder, joint=True)",
                "refused",
            ),
        )
    ),
    # ---- Dropout -----------------------------------------------------------------------------------------------------
    *(
        Fault(f"no dropout {where}", f"{PACKAGE}/models/{file}.py", old, new, f"{WIRING} -k dropout")
        for where, file, old, new in (
            ("on source embeddings", "encoder", "self.dropout(self.embedding(source))", "self.embedding(source)"),
            ("between layers of the encoder", "encoder", "self.dropout(below) if number > 1 else below", "below"),
            (
                "on target embeddings",
                "seq2seq",
                "self.decoder(self.dropout(self.embedding(target)), ",
                "self.decoder(self.embedding(target), ",
            ),
            (
                "between layers of the decoder",
                "decoder",
                "self.dropout(torch.cat([below, context], -1) if self.settings.context_to_all else below)",
                "torch.cat([below, context], -1) if self.settings.context_to_all else below",
            ),
            ("on a state that is read out", "decoder", "return self.dropout(hidden)", "return hidden"),
            ("on the readouts tanh and deep", "decoder", "self.dropout(mixed.tanh())", "mixed.tanh()"),
            (
                "on the readout maxout",
                "decoder",
                "self.dropout(mixed.unflatten(-1, (-1, 2)).amax(-1))",
                "mixed.unflatten(-1, (-1, 2)).amax(-1)",
            ),
        )
    ),
    # ---- Sweeps ------------------------------------------------------------------------------------------------------
    Fault(
        "every objective is maximised",
        f"{PACKAGE}/sweeps/settings.py",
        "StudyDirection.MAXIMIZE if is_maximised(o) else StudyDirection.MINIMIZE",
        "StudyDirection.MAXIMIZE",
        "tests/sweeps/test_settings.py",
    ),
    Fault(
        "the worse quartile of a loss is the lower one",
        f"{PACKAGE}/sweeps/settings.py",
        "0.25 if is_maximised(objective) else 0.75",
        "0.25",
        TRIALS,
    ),
    Fault(
        "several seeds are always averaged",
        f"{PACKAGE}/sweeps/settings.py",
        'if how == "mean":',
        "if how:",
        TRIALS,
    ),
    Fault(
        "a sweep draws the same whatever its seed",
        f"{PACKAGE}/sweeps/trials.py",
        "seed = (self.settings.seed + ",
        "seed = (0 + ",
        "tests/sweeps/test_settings.py",
    ),
    Fault(
        "startup trials have no effect",
        f"{PACKAGE}/sweeps/trials.py",
        "n_startup_trials=startup, seed=seed",
        "seed=seed",
        "tests/sweeps/test_settings.py",
    ),
    Fault(
        "every search is at random",
        f"{PACKAGE}/sweeps/trials.py",
        'if self.settings.sampler == "tpe"',
        'if self.settings.sampler == "no"',
        "tests/sweeps/test_settings.py",
    ),
    Fault(
        "the pruner counts the validations of one seed",
        f"{PACKAGE}/sweeps/trials.py",
        'pruner["validations"] = validations * settings.seeds',
        'pruner["validations"] = validations',
        f"{TRIALS} -k 'pruner or interrupted or seeds' -m 'not more'",
    ),
    Fault(
        "the steps of a trial's seeds coincide",
        f"{PACKAGE}/sweeps/trials.py",
        "first_step=index * validations",
        "first_step=0",
        f"{TRIALS} -k 'pruner or interrupted or seeds' -m 'not more'",
    ),
    Fault(
        "a trial's seeds have another rule",
        f"{PACKAGE}/sweeps/trials.py",
        "ticket = replace(ticket, over_seeds=settings.over_seeds)",
        'ticket = replace(ticket, over_seeds="mean")',
        TRIALS,
    ),
    Fault(
        "a trial reports BLEU whatever its objective",
        f"{PACKAGE}/sweeps/pruning.py",
        'f"dev/{self.ticket.objective}"',
        '"dev/bleu"',
        "tests/sweeps/test_settings.py",
    ),
    Fault(
        "a trial that is pruned trains on",
        f"{PACKAGE}/sweeps/pruning.py",
        "trainer.should_stop = trainer.should_stop or self.pruned",
        "pass",
        "tests/sweeps/test_settings.py",
    ),
    Fault(
        "no trial is pruned",
        "src/train.py",
        "if job.trial is None or not job.trial.objective:",
        "if True:",
        "tests/sweeps/test_settings.py",
    ),
    # ---- The ablation and its evaluation -----------------------------------------------------------------------------
    Fault(
        "the worst candidate is chosen",
        f"{PACKAGE}/experiments/rate_search.py",
        "return min(candidates, key=_loss)",
        "return max(candidates, key=_loss)",
        f"{WIRING} -k ablation",
    ),
    Fault(
        "a search goes on beyond the wrong end of its grid",
        f"{PACKAGE}/experiments/rate_search.py",
        'best * FACTOR if end == "highest" else best / FACTOR',
        'best * FACTOR if end == "lowest" else best / FACTOR',
        f"{WIRING} -k ablation",
    ),
    Fault(
        "a frozen encoder is trained",
        f"{PACKAGE}/training/freezing.py",
        "    encoder.requires_grad_(False)\n",
        "",
        "tests/training/test_freezing.py -k rest",
    ),
    Fault(
        "a frozen encoder has dropout",
        f"{PACKAGE}/training/module.py",
        "            freeze(self.model.encoder)\n",
        "            pass\n",
        "tests/training/test_freezing.py -k evaluation",
    ),
    Fault(
        "a fresh decoder is compared with itself",
        f"{PACKAGE}/analysis/frozen.py",
        "compare_quantities(own, by_fresh, pool([]))",
        "compare_quantities(by_fresh, by_fresh, pool([]))",
        "tests/analysis/test_probes.py -m slow -k fresh",
    ),
    Fault(
        "probes see labels of other sentences",
        f"{PACKAGE}/metrics/online_code.py",
        "vectors[order].float(), labels[order]",
        "vectors[order].float(), labels",
        "tests/metrics/test_online_code.py",
    ),
    Fault(
        "the grid of a search is not extended",
        f"{PACKAGE}/experiments/rate_search.py",
        "for _ in range(EXTENSIONS):",
        "for _ in range(0):",
        f"{WIRING} -k 'ablation or extended'",
    ),
    Fault(
        "an ablation trains with label smoothing",
        f"{PACKAGE}/experiments/ablation.py",
        '"optimizer.label_smoothing=0",',
        '"optimizer.label_smoothing=0.1",',
        "tests/experiments/test_ablation.py -k budget",
    ),
    Fault(
        "checkpoints are chosen by the likelihood under smoothing",
        f"{PACKAGE}/training/saving.py",
        'dev.get("smoothed_loss", dev["loss"])',
        'dev["loss"]',
        f"{WIRING} -k selects",
    ),
    Fault(
        "a loss that has risen again has converged",
        f"{PACKAGE}/analysis/convergence.py",
        "(1 + gain) * losses[best]",
        "(100 + gain) * losses[best]",
        "tests/analysis/test_convergence.py",
    ),
    Fault(
        "an ablation selects by BLEU",
        f"{PACKAGE}/experiments/ablation.py",
        '"trainer.select=loss",',
        '"trainer.select=bleu",',
        "tests/experiments/test_ablation.py",
    ),
    Fault(
        "all runs of an ablation have one seed",
        f"{PACKAGE}/experiments/ablation.py",
        'f"seed={seed}",',
        '"seed=1",',
        "tests/experiments/test_ablation.py -k budget",
    ),
    Fault(
        "all runs of an ablation have one budget",
        f"{PACKAGE}/experiments/ablation.py",
        'f"trainer.target_tokens={target_tokens}",',
        '"trainer.target_tokens=1000",',
        "tests/experiments/test_ablation.py -k budget",
    ),
    Fault(
        "the runs of a ladder start anew",
        f"{PACKAGE}/experiments/ablation.py",
        'words.append(path_override("start_from", before.path))',
        "pass",
        "tests/experiments/test_ablation.py -k ladder",
    ),
    Fault(
        "controls have all seeds",
        f"{PACKAGE}/experiments/ablation.py",
        "return settings.seeds[:1] if variant.name in settings.controls else settings.seeds",
        "return settings.seeds",
        "tests/experiments/test_ablation.py -k controls",
    ),
    Fault(
        "a run that starts from another has its best scores",
        f"{PACKAGE}/training/branching.py",
        '{"best": {}, "finished": False}',
        'content["callbacks"]["Checkpoints"]',
        "tests/training/test_branching.py",
    ),
    Fault(
        "the rate of a run falls too early to go on from",
        f"{PACKAGE}/training/optimizer.py",
        "return steps - round(COOLDOWN * steps)",
        "return steps - 2 * round(COOLDOWN * steps)",
        "tests/training/test_optimizer.py -k wsd",
    ),
    Fault(
        "a gap has flattened whose change is small but unsure",
        f"{PACKAGE}/analysis/ladder.py",
        "if -least < interval.low and interval.high < least",
        "if abs(change.value) < least",
        "tests/analysis/test_ladder.py",
    ),
    Fault(
        "the variance over seeds is that of two variants",
        f"{PACKAGE}/analysis/comparing.py",
        "pool(list(quantities.values()))",
        "pool([quantities[name], quantities[baselines[name]]])",
        f"{EVALUATION} {COMPARING}",
    ),
    Fault(
        "an ablation compares with another variant",
        f"{PACKAGE}/experiments/evaluation.py",
        "others = {variant: baseline for variant in scores if variant != baseline}",
        "others = {variant: list(scores)[-1] for variant in scores if variant != baseline}",
        EVALUATION,
    ),
    Fault(
        "slopes have the variance of the baseline's seeds",
        f"{PACKAGE}/experiments/evaluation.py",
        "seeds = pool(list(slopes.values()))",
        "seeds = pool([slopes[baseline]])",
        EVALUATION,
    ),
    Fault(
        "pairs have the variance of the first variant's seeds",
        f"{PACKAGE}/experiments/evaluation.py",
        "seeds = pool([own.whole for own in scores.values()])",
        "seeds = pool([next(iter(scores.values())).whole])",
        EVALUATION,
    ),
    Fault(
        "Holm's adjustment is left out",
        f"{PACKAGE}/metrics/significance.py",
        "adjusted = holm([item.p for item in differences.values()])",
        "adjusted = [item.p for item in differences.values()]",
        f"{EVALUATION} {COMPARING}",
    ),
    Fault(
        "p is printed for Holm's p",
        f"{PACKAGE}/reports/phrases.py",
        "[show_p(difference.p), show_p(difference.p_holm)]",
        "[show_p(difference.p), show_p(difference.p)]",
        f"{EVALUATION} {COMPARING}",
    ),
    Fault(
        "convergence is judged by another share",
        f"{PACKAGE}/experiments/evaluation.py",
        "judge_convergence(run, ablation.settings.converged)",
        "judge_convergence(run, 0.5)",
        EVALUATION,
    ),
    Fault(
        "the floor for slopes has no effect",
        f"{PACKAGE}/experiments/evaluation.py",
        "if metric.is_better(floor, baseline.score.mean):",
        "if metric.is_better(-1, baseline.score.mean):",
        EVALUATION,
    ),
    Fault(
        "kept sentences lose their order",
        f"{PACKAGE}/analysis/sentence_scores.py",
        'arrays["source_words"].astype(np.int64), statistics, whole)',
        'arrays["source_words"].astype(np.int64), statistics[::-1], whole)',
        EVALUATION,
    ),
    Fault(
        "kept likelihoods at a temperature have those without it",
        f"{PACKAGE}/analysis/likelihoods.py",
        'lists.get("raw_nats", lists["nats"])',
        'lists["nats"]',
        "tests/analysis/test_kept_likelihoods.py",
    ),
    Fault(
        "examples are of the last seed",
        f"{PACKAGE}/experiments/evaluation.py",
        "_gather_examples([seeds[0].whole for",
        "_gather_examples([seeds[-1].whole for",
        EVALUATION,
    ),
    Fault(
        "an ablation has another number of resamples",
        f"{PACKAGE}/experiments/evaluation.py",
        "draws = make_draws(lengths, ablation.settings.resamples)",
        "draws = make_draws(lengths, 100)",
        EVALUATION,
    ),
    Fault(
        "one training that has converged is enough",
        f"{PACKAGE}/analysis/convergence.py",
        "return False if False in verdicts else",
        "return False if True not in verdicts else",
        f"{EVALUATION} {COMPARING}",
    ),
    # ---- Comparisons of runs -----------------------------------------------------------------------------------------
    Fault(
        "a comparison pools over one group",
        f"{PACKAGE}/analysis/comparing.py",
        "seeds = pool([item.whole for item in score.values()])",
        "seeds = pool([next(iter(score.values())).whole])",
        COMPARING,
    ),
    Fault(
        "p centres absolute differences",
        f"{PACKAGE}/metrics/significance.py",
        "np.abs(drawn - drawn.mean()) >= abs(value)",
        "np.abs(drawn) - np.abs(drawn).mean() > abs(value)",
        SIGNIFICANCE,
    ),
    Fault(
        "an interval leaves what is possible",
        f"{PACKAGE}/metrics/significance.py",
        "Interval(value - width, value + width).clipped(bounds)",
        "Interval(value - width, value + width)",
        SIGNIFICANCE,
    ),
    Fault(
        "a few sentences have an interval",
        f"{PACKAGE}/metrics/significance.py",
        "self.sentences >= FEWEST_SENTENCES and not",
        "not",
        SIGNIFICANCE,
    ),
    Fault(
        "bands leave seeds out",
        f"{PACKAGE}/reports/phrases.py",
        "[item.widest for item in estimates]",
        "[item.interval for item in estimates]",
        f"{EVALUATION} tests/reports/test_bits_report.py",
    ),
    Fault(
        "the narrower interval is printed",
        f"{PACKAGE}/metrics/significance.py",
        "return max(over_seeds, ",
        "return min(over_seeds, ",
        "tests/reports/test_phrases.py",
    ),
    Fault(
        "intervals stand under each other's headings",
        f"{PACKAGE}/reports/phrases.py",
        "(difference.trained, difference.architecture, difference.own_spread)",
        "(difference.trained, difference.own_spread, difference.architecture)",
        "tests/reports/test_phrases.py",
    ),
    # ---- Bits --------------------------------------------------------------------------------------------------------
    Fault(
        "the temperature is fitted on test",
        f"{PACKAGE}/analysis/likelihoods.py",
        "    temperature = best_temperature(run, trained, dev)",
        "    temperature = best_temperature(run, trained, pairs)",
        f"{BITS} -m slow -k temperature",
    ),
    Fault(
        "tokenizers are not compared",
        f"{PACKAGE}/analysis/comparability.py",
        '        "tokenizer": run.metrics.tokenizer_digest,\n',
        "",
        f"{BITS} -m slow -k compared",
    ),
    Fault(
        "corpora are not compared",
        f"{PACKAGE}/analysis/comparability.py",
        '        "corpus": run.metrics.corpus_digest,\n',
        "",
        f"{BITS} -m slow -k compared",
    ),
    Fault(
        "a blind run may have read less",
        f"{PACKAGE}/analysis/comparability.py",
        "if tokens > BUDGET_TOLERANCE * budget:",
        "if False:",
        f"{BITS} -m slow -k compared",
    ),
    Fault(
        "the worst blind run is chosen",
        f"{PACKAGE}/analysis/comparability.py",
        "return min(runs, key=lambda run: run.metrics.dev.loss)",
        "return max(runs, key=lambda run: run.metrics.dev.loss)",
        f"{BITS} -m slow -k blind",
    ),
    Fault(
        "bits have the variance of the baseline's seeds",
        f"{PACKAGE}/analysis/bits.py",
        "seeds = pool([each.whole for each in measured.values()])",
        "seeds = pool([base.whole])",
        f"{WIRING} -k pooled",
    ),
    Fault(
        "bits of a bucket have the variance of the baseline's seeds",
        f"{PACKAGE}/analysis/bits.py",
        "pool([each.buckets[bucket] for each in measured.values()])",
        "pool([base.buckets[bucket]])",
        f"{WIRING} -k pooled",
    ),
    Fault(
        "the curve of a difference has the other sign",
        f"{PACKAGE}/analysis/bits.py",
        "find_plateau(own.test.source_words, base.needed, own.needed)",
        "find_plateau(own.test.source_words, own.needed, base.needed)",
        f"{BITS} -m slow -k difference",
    ),
    Fault(
        "the curve of a variant is that of its first seed",
        f"{PACKAGE}/analysis/bits.py",
        "return find_plateau(self.test.source_words, self.saved)",
        "return find_plateau(self.test.source_words, self.saved[:1])",
        f"{BITS} -m slow -k seeds_count",
    ),
    Fault(
        "attention is not compared with fixed",
        f"{PACKAGE}/analysis/bits.py",
        "pairs = [(name, fixed) for fixed in rereading for name in others]",
        "pairs: list[tuple[str, str]] = []",
        f"{WIRING} -k attention_is_compared",
    ),
    Fault(
        "bits in training are against the blind decoder at its best",
        f"{PACKAGE}/analysis/bits.py",
        "float(np.interp(tokens, tokens_of_blind, losses_of_blind))",
        "min(losses_of_blind)",
        f"{COMPARABILITY} -k training",
    ),
    Fault(
        "bits in training begin before the blind decoder's first validation",
        f"{PACKAGE}/analysis/bits.py",
        "if tokens * BUDGET_TOLERANCE >= tokens_of_blind[0]",
        "if tokens >= 0",
        f"{COMPARABILITY} -k training",
    ),
    Fault(
        "label smoothing is not compared",
        f"{PACKAGE}/analysis/comparability.py",
        '    "optimizer.label_smoothing",\n',
        "",
        f"{COMPARABILITY} -k refused",
    ),
    Fault(
        "a difference of an optimizer's options is not named",
        f"{PACKAGE}/analysis/comparability.py",
        'of_all = [*_options(everyone, "optimizer"), *NAMED_OPTIONS]',
        "of_all = [*NAMED_OPTIONS]",
        f"{COMPARABILITY} -k named",
    ),
    Fault(
        "the blind decoder's options are not compared",
        f"{PACKAGE}/analysis/comparability.py",
        "everyone = {**sighted, BLIND: blind.config}",
        "everyone = sighted",
        f"{COMPARABILITY} -k another_optimizer",
    ),
    Fault(
        "the spread of seeds is too small by their number",
        f"{PACKAGE}/metrics/saturation.py",
        "seeds.append(VarianceEstimate(freedom * float(values.var()), freedom))",
        "seeds.append(VarianceEstimate(float(values.var()), freedom))",
        f"{SATURATION} -k adds_sentences",
    ),
    Fault(
        "a plateau below zero is one of bits",
        f"{PACKAGE}/metrics/saturation.py",
        "or (interval.high < 0 and not len(less))",
        "",
        f"{SATURATION} -k below_zero",
    ),
    Fault(
        "a validation before the first point of the curves is at 0 tokens",
        f"{PACKAGE}/training/finished.py",
        "known = {-1: 0.0, **tokens, last: float(total)}",
        "known = {min(tokens) - 1: 0.0, **tokens, last: float(total)}",
        "tests/training/test_finished.py -k tokens",
    ),
    Fault(
        "the learning rates tried for the blind decoder are lost",
        "pipelines/bits.py",
        'blind_rates=[run.config["optimizer"]["learning_rate"] for run in blind_runs],',
        'blind_rates=[blind.config["optimizer"]["learning_rate"]],',
        f"{BITS} -m slow -k command",
    ),
    # ---- Overlap with train ------------------------------------------------------------------------------------------
    Fault(
        "words in two shared n-grams count twice",
        f"{PACKAGE}/corpora/overlap.py",
        "covered += start + NGRAM - max(start, end)",
        "covered += NGRAM",
        "tests/corpora/test_overlap.py -k plain_search",
    ),
    Fault(
        "targets are compared with training sources",
        f"{PACKAGE}/corpora/overlap.py",
        '_texts(corpus, "train", side), language',
        '_texts(corpus, "train", "source"), language',
        "tests/corpora/test_overlap.py -k batches",
    ),
    Fault(
        "overlap heeds case",
        f"{PACKAGE}/corpora/overlap.py",
        ".casefold()",
        "",
        "tests/corpora/test_overlap.py -k what_counts",
    ),
    Fault(
        "the clean part is that of the sources",
        f"{PACKAGE}/experiments/evaluation.py",
        'overlap.sides["test"]["target"].covered',
        'overlap.sides["test"]["source"].covered',
        "tests/experiments/test_evaluation.py -k clean_part",
    ),
    Fault(
        "a made corpus has a clean part",
        f"{PACKAGE}/experiments/evaluation.py",
        " if facts.leaks_removed else None",
        "",
        "tests/experiments/test_evaluation.py -k clean_part",
    ),
    # ---- Tracking ----------------------------------------------------------------------------------------------------
    Fault(
        "MLflow has another seed",
        f"{PACKAGE}/training/run.py",
        '"seed": config["seed"],',
        '"seed": 0,',
        f"{WIRING} -k tags",
    ),
    Fault(
        "MLflow has another encoder",
        f"{PACKAGE}/training/run.py",
        '"encoder": config["encoder"]["name"],',
        '"encoder": config["attention"]["name"],',
        f"{WIRING} -k tags",
    ),
)


def copy_of_tree(folder: Path) -> None:
    """Copy the files that git lists, with changes that are not committed."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    # By hash: a fault may leave a file's size and second as they were.
    checked = py_compile.PycInvalidationMode.CHECKED_HASH
    compileall.compile_dir(folder / "src", quiet=2, invalidation_mode=checked)


def import_libraries() -> None:
    """Import what tests import, but nothing of this project, so that forks have it."""
    gc.disable()
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.freeze()
    gc.enable()


def failed_test(folder: Path, tests: str) -> str | None:
    """Run tests in the copy, in a fork; return the first that fails, None if all pass."""
    output = folder / "output.txt"
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.chdir(folder)
        sys.path[:] = [str(folder / "tests"), str(folder / "src"), *sys.path[1:]]
        sys.dont_write_bytecode = True
        os.environ |= {"PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        with output.open("w") as stream, contextlib.redirect_stdout(stream), contextlib.redirect_stderr(io.StringIO()):
            words = ["-n", "0", "-x", "-q", "-p", "no:cacheprovider", "-rf", "--tb=no", *shlex.split(tests)]
            status = pytest.main(words)
            stream.flush()
        os._exit(int(status))
    deadline = time.monotonic() + LIMIT
    while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return f"no end after {LIMIT} s"
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # Servers of tests.
    status = os.waitstatus_to_exitcode(ended[1])
    if status == 0:
        return None
    text = output.read_text()
    if status == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise SystemExit(f"pytest {tests}: no such test")
    result = re.search(r"^(?:FAILED|ERROR) (\S+)", text, re.M)
    return result[1] if result else f"pytest ended with status {status}: {text.strip()[-300:]}"


def main(words: Sequence[str]) -> int:
    """Plant the faults whose names have one of the words; return the exit status."""
    chosen = [fault for fault in FAULTS if not words or any(word in fault.name for word in words)]
    if not chosen:
        print(f"no fault has {' or '.join(words)} in its name", file=sys.stderr)
        return 2
    import_libraries()
    survived, sound = [], set()
    with tempfile.TemporaryDirectory(prefix="hourglass-faults-") as scratch:
        folder = Path(scratch)
        copy_of_tree(folder)
        for number, fault in enumerate(chosen, 1):
            file = folder / fault.file
            text, started = file.read_text(), time.monotonic()
            file.write_text(text.replace(fault.old, fault.new))
            test = failed_test(folder, fault.tests)
            file.write_text(text)
            verdict = f"killed by {test}" if test else "SURVIVED"
            if test is not None and test not in sound and "::" in test:
                if failed_test(folder, f"{shlex.quote(test)} -m ''") is None:
                    sound.add(test)
                else:
                    test, verdict = None, f"UNKNOWN: {test} fails without a fault too"
            if test is None:
                survived.append(fault)
            print(f"{number}/{len(chosen)} {fault.name}: {verdict} ({time.monotonic() - started:.0f} s)", flush=True)
    print(f"\n{len(chosen) - len(survived)} of {len(chosen)} faults were killed")
    for fault in survived:
        print(f"not killed: {fault.name}: {fault.file}")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
