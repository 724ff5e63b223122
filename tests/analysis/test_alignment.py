"""Alignment: error rates by hand, and links of a model whose attention is set by the test."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import make_run, run_script, tiny_model

from hourglass.analysis.alignment import TRUE, align, score_alignment
from hourglass.data.pieces import EOS
from hourglass.errors import UserError
from hourglass.models.checkpoint import Trained, load_trained
from hourglass.models.encoder import Memory


@pytest.fixture(scope="module", params=["encoder.reverse_source=false", "encoder.reverse_source=true"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("run")
    words = ("attention=luong_local_m", "attention.window=1", "trainer.test=false", "trainer.target_tokens=500")
    return load_trained(make_run(folder, *words, request.param, "encoder.bidirectional=false").best)


def test_error_rate_by_hand() -> None:
    """Och and Ney 2003, equation 13, with sets of links."""
    links = [[0, 1, 3, 3], [1, 0]]
    for name, true in (("copy", [[0, 1, 2, 3], [0, 1]]), ("reverse", [[3, 2, 1, 0], [1, 0]])):
        predicted = {(i, j, at) for i, row in enumerate(links) for j, at in enumerate(row)}
        expected = {(i, j, at) for i, row in enumerate(true) for j, at in enumerate(row)}
        score = score_alignment(links, TRUE[name])
        assert score.links == len(predicted)
        assert score.error_rate == pytest.approx(1 - (len(predicted & expected) * 2) / (len(predicted) + len(expected)))
        near = sum(any((i, j, at + d) in expected for d in (-1, 0, 1)) for i, j, at in predicted)
        assert score.error_rate_near == pytest.approx(1 - near / len(predicted))


def test_links_are_the_largest_weights(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a score that peaks at the window's centre, local-m aligns copy without error, in batches of any size.

    Also if the encoder reads the source in reverse.
    """
    attention: Any = trained.model.decoder.attention

    def at_centre(query: torch.Tensor, prepared: Any) -> torch.Tensor:
        steps = torch.arange(query.shape[1])
        return -attention.distance(query, prepared, steps).abs().float()

    monkeypatch.setattr(attention, "scores", at_centre)
    sources = ["s1 s2 s3 s4", "s2", "s3 s1"]
    assert align(trained, sources, sources) == [[0, 1, 2, 3], [0], [0, 1]]
    assert align(trained, sources, sources, batch_tokens=1) == [[0, 1, 2, 3], [0], [0, 1]]
    # Past its end the centre stays on end-of-sentence.
    assert align(trained, ["s1"], ["s1 s2 s3"]) == [[0, 1, 1]]
    assert score_alignment(align(trained, sources, sources), TRUE["copy"]).error_rate == 0
    score = score_alignment(align(trained, sources, [" ".join(s.split()[::-1]) for s in sources]), TRUE["reverse"])
    assert score.error_rate == pytest.approx(6 / 7)  # Only the sentence of one word is right.


def test_models_that_cannot_align_words_are_refused(trained: Trained) -> None:
    with pytest.raises(UserError, match=r"tokenizer\.model=bpe: words are aligned"):
        align(trained.__class__(trained.model, trained.vocabularies, {"tokenizer": {"model": "bpe"}}, 0, ""), [], [])
    fixed = tiny_model("fixed")
    with pytest.raises(UserError, match="attention=fixed has no weights"):
        align(trained.__class__(fixed, trained.vocabularies, trained.config, 0, ""), [], [])


@pytest.mark.parametrize("reverse_source", [False, True])
def test_the_centre_of_local_m_follows_the_source_if_it_is_read_in_reverse(reverse_source: bool) -> None:
    """The centre of step t is source word t, which in reverse order is the t-th from the other end."""
    read: list[torch.Tensor] = []
    model = tiny_model("luong_local_m", {"encoder.reverse_source": reverse_source, "attention.window": 1})
    encoder: Any = model.encoder
    encoder.embedding.register_forward_hook(lambda _, given, __: read.append(given[0]))
    words = torch.tensor([[5, 6, 7, 8, 9, EOS]])
    memory: Memory = model.encode(words, torch.tensor([6]))
    order = read[0][0].tolist()
    assert order == ([9, 8, 7, 6, 5, EOS] if reverse_source else words[0].tolist())
    attention: Any = model.decoder.attention
    prepared = attention.prepare(memory)
    centre = attention.centre(torch.zeros(1, 5, 16), prepared, torch.arange(5))[0].tolist()
    for t in range(5):
        assert words[0, int(centre[t])] == words[0, t]
        count = 5  # words; end-of-sentence is read last either way
        assert order.index(int(words[0, int(centre[t])])) == (count - 1 - t if reverse_source else t)


@pytest.mark.slow
def test_runs_of_one_attention_are_told_apart_by_their_encoder(tmp_path: Path) -> None:
    words = ("attention=multi_head", "trainer.target_tokens=500")
    runs = [make_run(tmp_path / name, *words, f"encoder={name}") for name in ("rnn", "bag")]
    done = run_script("pipelines/align.py", *(str(run.path) for run in runs))
    head, first, second, *_ = (line.split() for line in done.stdout.splitlines())
    assert head[:4] == ["corpus", "encoder", "attention", "seed"]
    assert [first[:4], second[:4]] == [["copy", name, "multi_head", "1"] for name in ("rnn", "bag")]
