"""Which pieces were copied: against the distribution with the switch shut, and as the command writes it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import character_vocabularies, make_run, run_script, tiny_model

from hourglass.data.pieces import EOS, FIXED_PIECES
from hourglass.decoding.copied import check_copies, copied_shares, mark_copied
from hourglass.decoding.translate import ScoredTranslation
from hourglass.errors import UserError
from hourglass.models.checkpoint import load_trained

V = 14
SOURCES = [[5, 6, 5, 9], [7], [8, 4, 10, 4, 12, 13]]
TARGETS = [[5, 9, 11, EOS], [7, 7], [4, 8, EOS]]


def test_the_share_is_what_the_switch_adds() -> None:
    """P(v) is generated and copied parts; with the switch shut, only the former are left."""
    model = tiny_model("bahdanau", {"decoder.copy": True}, vocabulary=V)
    shares = copied_shares([model], SOURCES, TARGETS, batch_tokens=12)
    assert model.decoder.switch is not None
    switches: list[torch.Tensor] = []
    model.decoder.switch.register_forward_hook(lambda _, __, output: switches.append(output.detach()))
    for source, target, own in zip(SOURCES, TARGETS, shares, strict=True):
        ids = torch.tensor([[*source, EOS]])
        shifted = torch.tensor([[1, *target]])[:, :-1]
        with torch.no_grad():
            whole = model(ids, torch.tensor([ids.shape[1]]), shifted).exp()
            generates = switches[-1].flatten().sigmoid()
            memory = model.encode(ids, torch.tensor([ids.shape[1]]))
            readouts, _ = model.decoder(model.embedding(shifted), memory)
            generated = model.output(readouts[..., :-1]).softmax(-1)
        expected = [
            1 - float(generates[t] * generated[0, t, piece] / whole[0, t, piece]) for t, piece in enumerate(target)
        ]
        assert own == pytest.approx(expected, abs=1e-9)
        assert all(
            share == pytest.approx(0, abs=1e-9) for share, v in zip(own, target, strict=True) if v not in [*source, EOS]
        )
    both = copied_shares([model, model], SOURCES, TARGETS)
    assert all(np.allclose(one, two) for one, two in zip(both, shares, strict=True))
    assert copied_shares([model], [], []) == []


@pytest.mark.parametrize(
    ("language", "text", "copied", "prefix", "expected"),
    [
        ("en", "ab cd e fg", "cdfg", "", "ab [cd] e [fg]"),
        ("en", "ab cd e fg", "abcdfg", "ab c", "ab [cd] e [fg]"),  # Of what is forced nothing is copied.
        ("en", "ab cd", "abc", "ab c", "ab cd"),
        ("en", "ab cd", "abcd", "ab cd", "ab cd"),
        ("en", "ab cd e", "cdab", "", "[ab cd] e"),
        ("en", "ab cd", "c", "", "ab cd"),  # Not more than half of its pieces, with the space before it.
        ("en", "ab", "ab", "", "[ab]"),
        ("zh", "abc", "b", "", "a[b]c"),
        ("en", "", "", "", ""),
    ],
)
def test_words_are_marked(language: str, text: str, copied: str, *, prefix: str, expected: str, tmp_path: Path) -> None:
    vocabularies = character_vocabularies(["ab cd e fg abc"], tmp_path)
    (ids,) = vocabularies.target.encode([text])
    pieces = [piece.replace("\u2581", "") for piece in vocabularies.target.pieces(ids)]
    shares = np.array([float(piece != "" and piece in copied) for piece in pieces])
    forced = len(vocabularies.target.encode([prefix])[0])
    assert mark_copied(vocabularies, language, ScoredTranslation(text, 0.0, ids, forced), shares) == expected


def test_a_model_that_copies_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"output=marked .*decoder.copy=false.*: set output=text"):
        check_copies([tiny_model()], "output=marked", "set output=text")


@pytest.mark.slow
def test_the_command_marks_what_was_copied(tmp_path: Path) -> None:
    """A run with copies and coverage, from training to translating; its text is that of plain output."""
    words = ("attention=bahdanau", "attention.coverage=true", "attention.coverage_loss=0.5", "decoder.copy=true")
    run = make_run(tmp_path, *words, "trainer.target_tokens=20_000", "optimizer.learning_rate=0.01")
    trained = load_trained(run.best)
    assert trained.model.copies
    assert trained.vocabularies.target.size > FIXED_PIECES
    lines = "s1 s2 s0\n\ns3 s3 s5 s1\n"

    def translated(*options: str) -> list[str]:
        done = run_script("src/translate.py", f"run={run.path}", *options, stdin=lines.encode())
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    plain, marked = translated(), translated("output=marked")
    assert [re.sub(r"[][]", "", line) for line in marked] == plain
    assert any("[" in line for line in marked)
    rows = [json.loads(line) for line in translated("output=json", "search=beam", "search.beam=3")]
    assert all(len(row["copied"]) == len(row["target_pieces"]) for row in rows)
    assert all(0 <= share <= 1 for row in rows for share in row["copied"])
    two = translated("output=marked", "search=beam", "search.beam=2", "n_best=2")
    assert all(re.fullmatch(r"\d \|\|\| .*\|\|\| -?[\d.]+", line) for line in two)
