"""What the speed of a step depends on is counted: calls of the library, and logits that exist at once.

Seconds are measured by pipelines/bench.py. No test asserts them.
"""

from collections import Counter
from typing import Any

import pytest
import torch
from helpers import compose_config
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hourglass.config.options import build
from hourglass.data.pieces import BOS, EOS, FIXED_PIECES
from hourglass.decoding.search import SearchSettings, search
from hourglass.models import seq2seq
from hourglass.models.build import build_model
from hourglass.models.seq2seq import Seq2Seq

V = 50
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "mkldnn_rnn_layer", "mkldnn_rnn_layer_backward")
SMALL = ("encoder.hidden_size=32", "decoder.hidden_size=32", "decoder.readout_size=32", "decoder.tie=none")


class Calls(TorchDispatchMode):
    """Counts the library's calls by name, and records the most rows of a tensor of logits."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()
        self.logit_rows = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count[function.overloadpacket.__name__] += 1
        results = function(*args, **(kwargs or {}))
        for result in results if isinstance(results, tuple) else (results,):
            if isinstance(result, Tensor) and result.shape[-1:] == (V,) and result.is_floating_point():
                self.logit_rows = max(self.logit_rows, result.numel() // V)
        return results


def count_training_calls(model: Seq2Seq, target_length: int, sentences: int = 3) -> Calls:
    """Count the calls of a forward and a backward pass."""
    ids = torch.randint(FIXED_PIECES, V, (sentences, 5 + target_length))
    ids[:, 4] = ids[:, -1] = EOS
    target = torch.cat([torch.full((sentences, 1), BOS), ids[:, 5:]], 1)
    model.zero_grad()
    with Calls() as calls:
        model.loss(ids[:, :5], torch.full((sentences,), 5), target, smoothing=0.1).smoothed.backward()
    return calls


def make(*overrides: str) -> Seq2Seq:
    return build_model(compose_config(*SMALL, *overrides), V, V, joint=False)


@pytest.mark.parametrize("attention", ["none", "fixed", "mean", "luong_general", "luong_concat", "luong_local_p"])
def test_one_pass_over_a_known_target_makes_as_many_calls_at_any_length(attention: str) -> None:
    model = make(f"attention={attention}")
    short, long = (count_training_calls(model, length).count for length in (6, 12))
    assert long == short
    assert short["mkldnn_rnn_layer"] == 3  # Two directions of the encoder, one of the decoder.


# Products forward, and two backward for each of them; but the gradient of a loop's weight is one for all steps.
@pytest.mark.parametrize(
    ("overrides", "products", "calls"),
    [
        # Queries and context; LSTM of input and of state; readout.
        (("attention=luong_general", "decoder.input_feeding=true"), 12, 115),
        (("attention=bahdanau",), 10, 120),  # Without feeding, the readout is computed after the loop.
    ],
)
def test_a_step_of_the_loop_makes_few_calls(overrides: tuple[str, ...], products: int, calls: int) -> None:
    """What does not depend on the step before is outside the loop: source keys, the output layer."""
    model = make(*overrides)
    short, long = (count_training_calls(model, length).count for length in (6, 12))
    per_step = {name: (long[name] - short[name]) / 6 for name in long}
    assert sum(per_step[name] for name in PRODUCTS if name in per_step) <= products
    assert sum(per_step.values()) <= calls


@pytest.mark.parametrize(("beam", "most"), [(1, 140), (5, 165)])
def test_a_step_of_a_search_makes_few_calls(beam: int, most: int) -> None:
    """Keys are projected once, before the first step, and there is one row of logits for each beam.

    A beam's best continuations take more calls than one `topk` over all of them, and less time.
    """
    model = make("attention=luong_general", "decoder.input_feeding=true").eval()
    with torch.no_grad():
        model.output.bias[EOS] = -1e9  # No hypothesis ends before its limit.
    sentences = 3
    source = torch.randint(FIXED_PIECES, V, (sentences, 5))

    def count(steps: int) -> Counter[str]:
        options = compose_config(f"search.beam={beam}", f"search.output_most={steps}")["search"]
        settings = build(SearchSettings, options, "search")
        with Calls() as calls:
            hypotheses = search(model, source, torch.full((sentences,), 5), settings)
        assert [len(hypothesis.tokens) for hypothesis in hypotheses] == [steps] * sentences
        assert calls.logit_rows == sentences * beam
        return calls.count

    short, long = count(6), count(12)
    per_step = {name: (long[name] - short[name]) / 6 for name in long}
    # Word, state and fed readout into the gates; queries and context; readout; output layer.
    # (In inference mode, linear and matmul are not decomposed.)
    assert sum(per_step.get(name, 0) for name in (*PRODUCTS, "linear", "matmul")) == 7
    assert sum(per_step.values()) <= most


def test_the_logits_that_exist_at_once_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("attention=luong_general", "decoder.readout_size=16")
    assert count_training_calls(model, 12, sentences=8).logit_rows == 12 * 8
    monkeypatch.setattr(seq2seq, "LOGIT_ROWS", 20)
    calls = count_training_calls(model, 12, sentences=8)
    # (The output layer's weights, transposed for the product, look like 16 rows of logits.)
    assert calls.logit_rows == 20
