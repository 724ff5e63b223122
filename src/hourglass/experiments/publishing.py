"""A recorded ablation in MLflow: one parent run, a child for each variant and seed, each told once.

All but the files of a run comes from results/CORPUS/evaluation.json, so that a fresh clone can fill a store with it.
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
from tqdm import tqdm

from hourglass.analysis.evaluation import Evaluation
from hourglass.experiments.ablation import Ablation, Variant
from hourglass.metrics.scoring import show_bounds
from hourglass.runs.curves import read_points
from hourglass.runs.folder import RunFolder
from hourglass.tracking.client import (
    BY_LENGTH,
    PARAMETERS_AT_ONCE,
    asking,
    dataset_input,
    find_experiment,
    flatten,
    log_by_length,
    log_model,
    log_points,
)
from hourglass.tracking.packing import pack

# What the tags of a run of an ablation say: which ablation and part it is, what it was made of, and if it still counts.
PART, CONTENT, SUPERSEDED = "hourglass.part", "hourglass.content", "superseded"


# What of the run's own files is there, the more the higher: nothing (or no tag says so), all but the model, all.
PARTS: dict[str | None, int] = {None: 0, "no": 0, "yes": 1, "model": 2}


# The tag that says which of these it is; what stands for the successor of a run that the ablation no longer has.
FILES, GONE = "hourglass.files", "no longer in the ablation"


@dataclass(frozen=True)
class Child:
    """One variant with one seed, as MLflow is to have it."""

    part: str  # names it within the ablation: CORPUS ATTENTION SEED
    tags: dict[str, str]
    parameters: dict[str, Any]
    metrics: dict[str, float]
    curves: dict[str, list[tuple[int, float]]]  # by name: step, value
    by_length: list[dict[str, Any]]  # the table: a row for each bucket
    dataset: tuple[str, str]  # name and digest
    run: RunFolder
    files: list[Path]  # of the run, where it was made on this machine

    @property
    def name(self) -> str:
        """What MLflow lists it as; attention first, as a column is narrow."""
        corpus, attention, seed = self.part.split()
        return f"{attention}-{seed} {corpus}"

    @property
    def here(self) -> str:
        """What of the run is on this machine: one of PARTS."""
        return "model" if self.run.best.is_file() else "yes" if self.files else "no"

    @property
    def content(self) -> str:
        """A digest of all that is told, so that the same is told once."""
        everything = [self.part, self.tags, self.parameters, self.metrics, self.curves, self.by_length]
        return hashlib.sha256(json.dumps(everything, sort_keys=True, default=str).encode()).hexdigest()[:32]


def publish(
    ablation: Ablation, evaluations: Mapping[str, Evaluation], client: MlflowClient, experiment: str
) -> list[str]:
    """Fill an MLflow store with an ablation, and return the names of the runs that were new to it.

    A run of the same variant and seed that says something else is kept, marked as superseded by the new one; one that
    was cut short, by a server that died, is deleted and told again.
    """
    experiment_id = find_experiment(asking(client), experiment)
    children = [
        child for corpus, evaluation in evaluations.items() for child in read_children(ablation, corpus, evaluation)
    ]
    known = _known(client, experiment_id)
    parts = {"ablation", *(child.part for child in children)}
    for part, run in known.items():
        if part not in parts:
            client.set_tag(run.info.run_id, SUPERSEDED, GONE)
    new = [child for child in children if _is_news(child, known.get(child.part))]
    if not new:
        return []
    parent = known["ablation"] if "ablation" in known else _create_parent(client, experiment_id)
    for child in tqdm(new, "MLflow", unit="run"):
        run_id = _create(client, experiment_id, parent.info.run_id, child)
        _send_files(client, run_id, child)
        took = round(1000 * child.metrics["train_seconds"])  # As if it began now: the newest are those told last.
        client.set_terminated(run_id, end_time=client.get_run(run_id).info.start_time + took)
        client.set_tag(run_id, CONTENT, child.content)  # Now it is whole.
        if child.part in known:
            client.set_tag(known[child.part].info.run_id, SUPERSEDED, run_id)
    for report in (ablation.root / "results").glob("report.*"):
        client.log_artifact(parent.info.run_id, str(report))
    return [child.part for child in new]


def _known(client: MlflowClient, experiment_id: str) -> dict[str, Run]:
    """Return the run of each part that counts, after clearing up what a server that died has left."""
    known: dict[str, Run] = {}
    for run in _counting(client, experiment_id):
        if CONTENT in run.data.tags:
            newest = known.setdefault(run.data.tags[PART], run)  # They come the newest first.
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
        with tempfile.TemporaryDirectory() as scratch:  # The run's folder is DVC's, and stays as it is.
            folder = Path(scratch) / "model"
            pack(child.run, folder)
            log_model(asking(client), run_id, child.run, folder)
    client.set_tag(run_id, FILES, child.here)


def find_model(client: MlflowClient, experiment: str, part: str) -> LoggedModel | None:
    """Return the logged model of a run of the ablation, None where it was told without one.

    Args:
        client: of MLflow.
        experiment: the ablation's.
        part: of the ablation: CORPUS ATTENTION SEED.
    """
    found = client.get_experiment_by_name(experiment)
    runs = (run for run in _counting(client, found.experiment_id) if run.data.tags[PART] == part) if found else ()
    for run in runs:
        for output in run.outputs.model_outputs if run.outputs else ():
            return client.get_logged_model(output.model_id)
    return None


def _is_news(child: Child, known: Run | None) -> bool:
    """Whether MLflow lacks a run, or has another one, or one without the files or the model that are here."""
    if known is None:
        return True
    return known.data.tags[CONTENT] != child.content or PARTS[known.data.tags.get(FILES)] < PARTS[child.here]


def read_children(ablation: Ablation, corpus: str, evaluation: Evaluation) -> Iterator[Child]:
    """Yield the runs of a corpus."""
    for attention, result in evaluation.variants.items():
        buckets = list(zip(evaluation.buckets, result.buckets, strict=True))
        for index, training in enumerate(result.seeds):
            variant = Variant(corpus, attention)
            curves = {
                f"dev/{name}": [(round(tokens), value) for tokens, value in curve]
                for name, curve in (("loss", training.curves.loss), ("bleu", training.curves.bleu))
            }
            curves[BY_LENGTH] = [
                (bucket.source_words[0], scores.bleu.by_seed[index]) for bucket, scores in buckets if scores.bleu
            ]
            yield Child(
                part=f"{corpus} {attention} {training.seed}",
                tags={
                    "corpus": corpus,
                    "attention": attention,
                    "seed": str(training.seed),
                    "encoder": result.config["encoder"]["name"],
                    "decoder": result.config["decoder"]["cell"],
                    "commit": ", ".join(result.commits),
                    "dirty": str(result.dirty),
                    "dvc_stage": f"train-{corpus}@{attention}-{training.seed}",
                    "corpus_digest": evaluation.corpus.digest,
                    "bleu_signature": result.signature,
                    "converged": str(training.convergence.converged),
                },
                parameters={**dict(flatten(result.config)), "seed": training.seed},
                metrics={
                    "test/bleu": result.bleu.by_seed[index],
                    "test/chrf": training.chrf,
                    "best/loss": training.dev.loss,
                    "best/bleu": training.dev.bleu,
                    "parameters": result.parameters,
                    "train_target_tokens": training.target_tokens,
                    "train_seconds": training.seconds,
                },
                curves=curves,
                by_length=[
                    {
                        "source_words": show_bounds(bucket.source_words),
                        "sentences": bucket.sentences,
                        "bleu": scores.bleu.by_seed[index] if scores.bleu else None,
                        "copy_bleu": scores.copy_bleu,
                    }
                    for bucket, scores in buckets
                ],
                dataset=(corpus, evaluation.corpus.digest),
                run=ablation.run(variant, training.seed),
                files=_files(ablation, variant, training.seed),
            )


def _files(ablation: Ablation, variant: Variant, seed: int) -> list[Path]:
    run = ablation.run(variant, seed)
    files = (run.config, run.curves, run.metrics, ablation.translations(variant, seed, "test"))
    return [file for file in files if file.is_file()]


def _counting(client: MlflowClient, experiment_id: str) -> Iterator[Run]:
    """Yield the runs of the ablation that no other has superseded."""
    token = None
    while True:
        page = client.search_runs([experiment_id], f"tags.`{PART}` != ''", page_token=token)
        yield from (run for run in page if SUPERSEDED not in run.data.tags)
        token = page.token
        if not token:
            return


def _create_parent(client: MlflowClient, experiment_id: str) -> Run:
    run = client.create_run(experiment_id, run_name="ablation", tags={PART: "ablation", CONTENT: ""})
    client.set_terminated(run.info.run_id)
    return run


def _create(client: MlflowClient, experiment_id: str, parent: str, child: Child) -> str:
    tags = {**child.tags, PART: child.part, "mlflow.parentRunId": parent}
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
