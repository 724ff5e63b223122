"""What a run was earlier in its training, as its folder tells it. None of these runs has been trained."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from hourglass.analysis.histories import Course, TrainingPoint, earlier_points, recorded_scores
from hourglass.errors import UserError
from hourglass.training.finished import FinishedRun

TEST = {
    "bleu": 11.0,
    "chrf": 20.0,
    "signature": "s",
    "chrf_signature": "s",
    "buckets": [
        {"source_words": [1, 5], "bleu": 20.0, "chrf": 1.0},
        {"source_words": [6, None], "bleu": None, "chrf": 1.0},
    ],
}


def made_run(path: Path, tokens: int, step: int, **config: Any) -> FinishedRun:
    """Return a run of `tokens` in 10 steps, whose best checkpoint is that of a step, without weights in it."""
    (path / "checkpoints").mkdir(parents=True)
    (path / "checkpoints" / "best.ckpt").touch()
    (path / "config.yaml").write_text(yaml.safe_dump({"start_from": None, **config}))
    rows = [f"{at},train/target_tokens,{tokens * (at + 1) / 10}" for at in (1, 5, 9)]
    (path / "curves.csv").write_text("\n".join(["step,name,value", *rows, ""]))
    facts: dict[str, Any] = {
        "seed": 1,
        "parameters": 1,
        "train_target_tokens": tokens,
        "train_target_tokens_per_second": 1.0,
    }
    facts |= {"train_seconds": 1.0, "corpus": {}, "tokenizer_digest": "", "machine": {}, "commit": None, "dirty": None}
    dev = {"bleu": 1.0, "loss": 1.0, "step": step}
    (path / "metrics.json").write_text(json.dumps({**facts, "dev": dev, "test": TEST}))
    return FinishedRun.open(path)


def test_a_ladder_is_followed_down_to_its_first_run_also_where_it_was_moved(tmp_path: Path) -> None:
    made_run(tmp_path / "1M", 1000, 10)
    made_run(tmp_path / "2M", 2000, 10, start_from="/was/elsewhere/1M")
    top = made_run(tmp_path / "4M", 4000, 8, start_from=str(tmp_path / "2M"))
    points = earlier_points(top, 5)
    assert [(point.run.path.name, point.tokens, point.is_best) for point in points] == [
        ("1M", 1000, True),
        ("2M", 2000, True),
    ]
    assert [point.tokens for point in earlier_points(top, 1)] == [2000]
    assert TrainingPoint.best(top).tokens == 3200  # Its best checkpoint is of step 8 of 10.
    assert [point.tokens for point in Course.of_run(top, 0, 5).points] == [1000, 2000, 3200]
    (tmp_path / "1M" / "checkpoints" / "best.ckpt").unlink()
    assert [point.tokens for point in earlier_points(top, 5)] == [2000]


def test_validations_that_were_kept_are_earlier_points(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", 1000, 8)
    for step in (4, 6, 8, 10):
        run.folder.validated(step).touch()
    points = earlier_points(run, 5)
    assert [(point.weights.name, point.tokens, point.is_best) for point in points] == [
        ("validated-000000004.ckpt", 400, False),
        ("validated-000000006.ckpt", 600, False),
    ]
    assert points[0].scores is None  # Those of the run are of another checkpoint.


def test_a_run_without_earlier_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"checkpoints: .*run has no earlier weights.* set checkpoints=0"):
        earlier_points(made_run(tmp_path / "run", 1000, 8), 2)


def test_scores_by_length_are_those_of_the_run_or_of_what_is_kept_of_it(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", 1000, 8)
    scores = recorded_scores(run)
    assert scores is not None
    assert (scores.metric, scores.higher_is_better, scores.whole) == ("BLEU", True, 11.0)
    assert scores.buckets == [(1, 5, 20.0), (6, None, None)]
    run.folder.scores.write_text(json.dumps({"scores": {**TEST, "bleu": 12.0}}))
    kept = recorded_scores(run)
    assert kept is not None
    assert kept.whole == 12.0
    run.folder.scores.write_text(json.dumps({"scores": {"bleu": 12.0}}))
    with pytest.raises(UserError, match="its scores by length are damaged"):
        recorded_scores(run)


def test_a_ladder_of_kept_runs_needs_no_weights(tmp_path: Path) -> None:
    runs = [made_run(tmp_path / str(tokens), tokens, 10) for tokens in (4000, 1000)]
    course = Course.of_ladder(runs, 0)
    assert [point.tokens for point in course.points] == [1000, 4000]
    assert course.last.run is runs[0]
