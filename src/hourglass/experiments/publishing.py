"""Log a recorded ablation in MLflow: one parent run, and one child run for each variant and seed.

All but the files of a run comes from results/evaluations/CORPUS.json, so a fresh clone can fill a store. A run that the
store already holds is not logged again.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Metric, Param, Run

from hourglass.analysis.evaluation import Evaluation
from hourglass.analysis.information import Information
from hourglass.experiments.ablation import Ablation, Variant
from hourglass.metrics.scoring import show_bounds
from hourglass.runs.curves import read_points
from hourglass.runs.folder import RunFolder
from hourglass.system.bars import Bar
from hourglass.tracking.client import (
    PARAMETERS_AT_ONCE,
    asking,
    by_length_name,
    dataset_input,
    find_experiment,
    flatten,
    log_by_length,
    log_model,
    log_points,
)
from hourglass.tracking.packing import pack

# Tags of a run: its part of the ablation, the digest of its content, and the run that has superseded it.
PART, CONTENT, SUPERSEDED = "hourglass.part", "hourglass.content", "superseded"


# Value of the tag FILES: which files of the run were logged (none, all but the model, all), in ascending order.
COMPLETENESS: dict[str | None, int] = {None: 0, "no": 0, "yes": 1, "model": 2}


# The tag itself, and the value of SUPERSEDED for a run that the ablation no longer has.
FILES, GONE = "hourglass.files", "no longer in the ablation"


# What MLflow calls the bits per test sentence that a run receives.
BITS = "bits"


# Tag of a run: the results folder of its ablation. Runs from before the tag belong to the folder that git tracks.
RESULTS, TRACKED_RESULTS = "hourglass.results", "results"


@dataclass(frozen=True)
class Child:
    """The MLflow run of one variant and seed.

    Attributes:
        part: its name within the ablation: CORPUS ATTENTION SEED.
        tags: by name.
        parameters: by name.
        metrics: by name.
        curves: pairs of step and value, by name.
        by_length: a table with one row for each length bucket.
        dataset: name and digest.
        run: its folder.
        files: of the run; empty where it was not made on this machine.
    """

    part: str
    tags: dict[str, str]
    parameters: dict[str, Any]
    metrics: dict[str, float]
    curves: dict[str, list[tuple[int, float]]]
    by_length: list[dict[str, Any]]
    dataset: tuple[str, str]
    run: RunFolder
    files: list[Path]

    @property
    def name(self) -> str:
        """Name of the run in MLflow; the attention comes first, because columns are narrow."""
        corpus, attention, seed = self.part.split()
        return f"{attention}-{seed} {corpus}"

    @property
    def local_files(self) -> str:
        """Which files of the run are on this machine: a key of COMPLETENESS."""
        return "model" if self.run.best.is_file() else "yes" if self.files else "no"

    @property
    def content(self) -> str:
        """Digest of everything that is logged, to recognise a run that the store holds."""
        everything = [self.part, self.tags, self.parameters, self.metrics, self.curves, self.by_length]
        return hashlib.sha256(json.dumps(everything, sort_keys=True, default=str).encode()).hexdigest()[:32]


def publish(
    ablation: Ablation,
    evaluations: Mapping[str, Evaluation],
    client: MlflowClient,
    experiment: str,
    information: Mapping[str, Information] | None = None,
) -> list[str]:
    """Log an ablation in an MLflow store, and return the names of the runs that were new to it.

    A run of the same variant and seed with other content stays, marked as superseded by the new one. A run that is
    incomplete, because a server died, is deleted and logged again. Runs of an ablation with another results folder, a
    small one for example, are left as they are.

    Args:
        ablation: its settings.
        evaluations: by corpus.
        client: of MLflow.
        experiment: its name there.
        information: bits that reach the decoders, by corpus; the runs of a corpus without them have their scores alone.
    """
    results, information = ablation.settings.results, information or {}
    scores = [*([BITS] if information else []), *(name for own in evaluations.values() for name in own.metrics)]
    experiment_id = find_experiment(asking(client), experiment, client.tracking_uri, scores)
    children = [
        child
        for corpus, evaluation in evaluations.items()
        for child in read_children(ablation, corpus, evaluation, information.get(corpus))
    ]
    known = _known(client, experiment_id, results)
    parts = {"ablation", *(child.part for child in children)}
    for part, run in known.items():
        if part not in parts:
            client.set_tag(run.info.run_id, SUPERSEDED, GONE)
    new = [child for child in children if _is_new(child, known.get(child.part))]
    if not new:
        return []
    parent = known["ablation"] if "ablation" in known else _create_parent(client, experiment_id, results)
    bar = Bar("sending to MLflow", len(new), "runs")
    for child in new:
        run_id = _create(client, experiment_id, parent, child)
        _send_files(client, run_id, child)
        # As if the training began now: MLflow lists the runs that were logged last as the newest.
        duration = round(1000 * child.metrics["train_seconds"])
        client.set_terminated(run_id, end_time=client.get_run(run_id).info.start_time + duration)
        client.set_tag(run_id, CONTENT, child.content)  # Marks the run as complete.
        if child.part in known:
            client.set_tag(known[child.part].info.run_id, SUPERSEDED, run_id)
        bar.update()
    bar.close()
    for report in ablation.results_folder.glob("report.*"):
        client.log_artifact(parent.info.run_id, str(report))
    return [child.part for child in new]


def _known(client: MlflowClient, experiment_id: str, results: str) -> dict[str, Run]:
    """Return the current run of each part, after deleting the incomplete runs that a dead server has left."""
    known: dict[str, Run] = {}
    for run in _current_runs(client, experiment_id, results):
        if CONTENT in run.data.tags:
            newest = known.setdefault(run.data.tags[PART], run)  # The newest come first.
            if newest is not run:
                client.set_tag(run.info.run_id, SUPERSEDED, newest.info.run_id)
        else:
            for output in run.outputs.model_outputs if run.outputs else ():
                client.delete_logged_model(output.model_id)
            client.delete_run(run.info.run_id)
    return known


def _send_files(client: MlflowClient, run_id: str, child: Child) -> None:
    for file in child.files:
        client.log_artifact(run_id, str(file))
    log_points(asking(client), run_id, read_points(child.run.system))
    if child.run.best.is_file():
        with tempfile.TemporaryDirectory() as scratch:  # The run folder belongs to DVC: do not change it.
            folder = Path(scratch) / "model"
            pack(child.run, folder)
            log_model(asking(client), run_id, child.run, folder)
    client.set_tag(run_id, FILES, child.local_files)


def find_model(client: MlflowClient, experiment: str, part: str, results: str) -> LoggedModel | None:
    """Return the logged model of a run of the ablation; None for a run that was logged without its model.

    Args:
        client: of MLflow.
        experiment: name of the ablation's experiment.
        part: of the ablation: CORPUS ATTENTION SEED.
        results: the results folder of the ablation.
    """
    named = client.get_experiment_by_name(experiment)
    for run in _current_runs(client, named.experiment_id, results) if named else ():
        if run.data.tags[PART] != part:
            continue
        for output in run.outputs.model_outputs if run.outputs else ():
            return client.get_logged_model(output.model_id)
    return None


def _is_new(child: Child, known: Run | None) -> bool:
    """Whether MLflow lacks a run, or has it with other content or with fewer of its files."""
    if known is None:
        return True
    return (
        known.data.tags[CONTENT] != child.content
        or COMPLETENESS[known.data.tags.get(FILES)] < COMPLETENESS[child.local_files]
    )


def read_children(
    ablation: Ablation, corpus: str, evaluation: Evaluation, information: Information | None = None
) -> Iterator[Child]:
    """Yield the MLflow runs of a corpus."""
    for name, result in evaluation.variants.items():
        buckets = list(zip(evaluation.buckets, result.buckets, strict=True))
        for index, training in enumerate(result.seeds):
            variant = Variant(corpus, name)
            curves = {
                f"dev/{score}": [(round(tokens), value) for tokens, value in curve]
                for score, curve in (("loss", training.curves.loss), (evaluation.main, training.curves.score))
            }
            curves[by_length_name(evaluation.main)] = [
                (bucket.source_words[0], scores.score.by_seed[index]) for bucket, scores in buckets if scores.score
            ]
            yield Child(
                part=f"{corpus} {name} {training.seed}",
                tags={
                    "corpus": corpus,
                    "variant": name,
                    "attention": result.config["attention"]["name"],
                    "seed": str(training.seed),
                    "encoder": result.config["encoder"]["name"],
                    "decoder": result.config["decoder"]["cell"],
                    "commit": ", ".join(result.commits),
                    "dirty": str(result.dirty),
                    "dvc_stage": ablation.training_stage(variant, training.seed),
                    "corpus_digest": evaluation.corpus.digest,
                    f"{evaluation.main}_signature": evaluation.metric.signature,
                    "converged": _converged_tag(training.convergence.converged),
                },
                parameters={**dict(flatten(result.config)), "seed": training.seed, "parameters": result.parameters},
                metrics={
                    f"test/{evaluation.main}": result.score.by_seed[index],
                    **{f"test/{name}": value for name, value in training.others.items() if value is not None},
                    **_bits_metric(information, name, training.seed),
                    "best/loss": training.dev.loss,
                    f"best/{training.dev.metric}": training.dev.score,
                    "train_target_tokens": training.target_tokens,
                    "train_seconds": training.seconds,
                },
                curves=curves,
                by_length=[
                    {
                        "source_words": show_bounds(bucket.source_words),
                        "sentences": bucket.sentences,
                        evaluation.main: scores.score.by_seed[index] if scores.score else None,
                        **({} if scores.copied is None else {f"copy_{evaluation.main}": scores.copied}),
                    }
                    for bucket, scores in buckets
                ],
                dataset=(corpus, evaluation.corpus.digest),
                run=ablation.run(variant, training.seed),
                files=_files(ablation, variant, training.seed),
            )


def _bits_metric(information: Information | None, variant: str, seed: int) -> dict[str, float]:
    """Return the bits per test sentence that a run receives, by their name in MLflow; none where they are unknown."""
    own = information.variants.get(variant) if information else None
    if own is None or own.provenance is None:
        return {}
    bits = dict(zip(own.provenance.seeds, own.reading.by_seed, strict=True))
    return {f"test/{BITS}": bits[seed]} if seed in bits else {}


def _converged_tag(verdict: bool | None) -> str:
    return "cannot be told" if verdict is None else str(verdict)


def _files(ablation: Ablation, variant: Variant, seed: int) -> list[Path]:
    kept = ablation.kept(variant, seed, ablation.corpora[variant.corpus].budgets[-1])
    files = (kept.config, kept.curves, kept.metrics, kept.scores, ablation.translations(variant, seed, "test"))
    return [file for file in files if file.is_file()]


def _current_runs(client: MlflowClient, experiment_id: str, results: str) -> Iterator[Run]:
    """Yield the runs of the ablation with a results folder that are not superseded."""
    token = None
    while True:
        page = client.search_runs([experiment_id], f"tags.`{PART}` != ''", page_token=token)
        for run in page:
            if SUPERSEDED not in run.data.tags and run.data.tags.get(RESULTS, TRACKED_RESULTS) == results:
                yield run
        token = page.token
        if not token:
            return


def _create_parent(client: MlflowClient, experiment_id: str, results: str) -> Run:
    name = "ablation" if results == TRACKED_RESULTS else f"ablation {results}"
    run = client.create_run(experiment_id, run_name=name, tags={PART: "ablation", CONTENT: "", RESULTS: results})
    client.set_terminated(run.info.run_id)
    return run


def _create(client: MlflowClient, experiment_id: str, parent: Run, child: Child) -> str:
    results = parent.data.tags.get(RESULTS, TRACKED_RESULTS)
    tags = {**child.tags, PART: child.part, RESULTS: results, "mlflow.parentRunId": parent.info.run_id}
    run_id: str = client.create_run(experiment_id, run_name=child.name, tags=tags).info.run_id
    parameters = [Param(name, str(value)) for name, value in child.parameters.items()]
    for first in range(0, len(parameters), PARAMETERS_AT_ONCE):
        client.log_batch(run_id, params=parameters[first : first + PARAMETERS_AT_ONCE])
    points = [Metric(name, float(value), 0, 0) for name, value in child.metrics.items()]
    points += [Metric(name, float(value), 0, step) for name, curve in child.curves.items() for step, value in curve]
    client.log_batch(run_id, metrics=points)
    client.log_inputs(run_id, [dataset_input(*child.dataset)])
    log_by_length(asking(client), run_id, child.by_length)
    return run_id
