"""From config to model: every allowed combination of options runs, every other is refused by name, with a remedy."""

import itertools
import re
from typing import Any

import pytest
import torch
from helpers import ATTENTION_NAMES, ENCODER_NAMES, plain_search, tiny_config, tiny_model

from hourglass.data.pieces import BOS, EOS, PAD
from hourglass.decoding.search import SearchSettings, search
from hourglass.errors import UserError
from hourglass.models.build import build_model
from hourglass.models.cells import CELLS

V = 12
SOURCE = torch.tensor([[5, 6, 7, 8, EOS], [9, 5, EOS, PAD, PAD]])
LENGTHS = torch.tensor([5, 3])
TARGET = torch.tensor([[BOS, 6, 5, EOS, PAD], [BOS, 7, 8, 9, EOS]])
UNREAD = ("none", "fixed")  # attentions that read no encoder states
# Cells whose state is no vector for each direction: two directions of half the width are not one of the whole.
MATRICES = ("linear_attention", "mlstm", "delta_net")


def settings(beam: int) -> SearchSettings:
    return plain_search(beam, output_extra=2, output_most=5)


SWITCHES: dict[str, tuple[Any, ...]] = {
    "decoder.query": ("previous", "current"),
    "decoder.query_layer": ("top", "bottom"),
    "decoder.context_to_all": (False, True),
    "decoder.input_feeding": (False, True),
    "decoder.readout": ("tanh", "deep", "maxout", "state"),
    "decoder.start": ("dense", "pass", "zero"),
}
ENCODER_SWITCHES: dict[str, tuple[Any, ...]] = {
    "encoder.cell": tuple(CELLS),
    "encoder.bidirectional": (False, True, "first", "split"),
    "encoder.residual_from": (0, 2),
    "encoder.reverse_source": (False, True),
    "encoder.summary_tanh": (False, True),
}
# Every combination of the decoder's options with every attention. The combinations of the encoder's options take turns
# beside them, in another order for each attention.
ALL = list(itertools.product(ATTENTION_NAMES, itertools.product(*SWITCHES.values())))
ENCODERS = list(itertools.product(*ENCODER_SWITCHES.values()))


def run(attention: str, changes: dict[str, Any], encoder: str = "rnn") -> None:
    """Compute gradients and translate. All parts of a model must be used: every weight has a gradient."""
    model = build_model(tiny_config(attention, changes, encoder), V, V, joint=True)
    loss = model.loss(SOURCE, LENGTHS, TARGET, 0.1)
    assert loss.smoothed.isfinite()
    loss.smoothed.backward()
    idle = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not idle
    model.eval()
    for beam in (1, 3):
        result = search(model, SOURCE, LENGTHS, settings(beam))
        assert len(result) == len(SOURCE)
        assert all(len(hypothesis.tokens) <= 5 for hypothesis in result)


def combine(number: int) -> tuple[str, dict[str, Any]]:
    """Return the combination of this number: an attention, and changes of the config with all that they need."""
    attention, decoder = ALL[number]
    decoders = len(ALL) // len(ATTENTION_NAMES)
    encoder = ENCODERS[(number * 7 + number // decoders * 5) % len(ENCODERS)]
    changes = dict(zip(SWITCHES, decoder, strict=True)) | dict(zip(ENCODER_SWITCHES, encoder, strict=True))
    cells = ENCODER_SWITCHES["encoder.cell"]
    cell = encoder[0] if changes["decoder.start"] == "pass" else cells[number // 7 % len(cells)]
    changes |= {
        "encoder.layers": 4,
        "decoder.layers": 4,
        "decoder.cell": cell,
        "decoder.residual_from": 3 * (number % 2),
    }
    if changes["encoder.bidirectional"] == "split":
        changes["encoder.hidden_size"] = 16 if "dot" in attention else 32
        changes["decoder.layers"] = 4
    if changes["decoder.start"] == "pass":
        width = changes.get("encoder.hidden_size", 16) // (2 if changes["encoder.bidirectional"] == "split" else 1)
        changes |= {"encoder.summary_size": 4 * CELLS[cell].state_size(width), "encoder.summary_tanh": False}
    if changes["decoder.readout"] == "state":
        changes |= dict.fromkeys(("decoder.readout_size", "decoder.embedding_size", "encoder.embedding_size"), 16)
    return attention, changes


def reason_to_refuse(attention: str, changes: dict[str, Any]) -> str | None:
    """Return the option that the refusal of a combination must name; None if it is allowed."""
    reads_states = attention not in UNREAD
    if changes["decoder.start"] == "zero" and attention == "none":
        return "decoder.start=zero"
    split = changes["encoder.bidirectional"] == "split" and "dot" in attention
    if changes["decoder.start"] == "pass" and split:
        return "decoder.start=pass"  # Layers of half the width, so that dot's widths are equal.
    halved = changes["encoder.bidirectional"] in (True, "first")
    if changes["decoder.start"] == "pass" and halved and changes["encoder.cell"] in MATRICES:
        return "decoder.start=pass"
    context = reads_states or attention == "fixed"
    unread = changes["decoder.query"] == "current" and not changes["decoder.context_to_all"] and context
    return "decoder.readout=state" if changes["decoder.readout"] == "state" and unread else None


def check_combination(number: int) -> None:
    attention, changes = combine(number)
    reason = reason_to_refuse(attention, changes)
    if reason is None:
        run(attention, changes)
        return
    with pytest.raises(UserError, match=f"{reason}.*set "):
        build_model(tiny_config(attention, changes), V, V, joint=True)


@pytest.mark.parametrize("number", range(0, len(ALL), 17))
def test_a_sample_of_the_combinations_runs_or_is_refused(number: int) -> None:
    check_combination(number)


@pytest.mark.more
@pytest.mark.slow
@pytest.mark.parametrize("attention", ATTENTION_NAMES)
def test_every_combination_runs_or_is_refused(attention: str) -> None:
    """Forward, backward, greedy and beam."""
    numbers = [number for number, (name, _) in enumerate(ALL) if name == attention]
    assert len(numbers) == len(ALL) / len(ATTENTION_NAMES)
    for number in numbers:
        check_combination(number)


def test_the_sample_has_every_setting_and_all_combinations_have_every_pair() -> None:
    both = SWITCHES | ENCODER_SWITCHES
    sample = [combine(number)[1] for number in range(0, len(ALL), 17)]
    for option, choices in both.items():
        assert {changes[option] for changes in sample} == set(choices)
    every = [combine(number) for number in range(len(ALL))]
    free = [option for option in both if option != "encoder.summary_tanh"]  # It depends on decoder.start.
    for first, second in itertools.combinations(free, 2):
        pairs = {(changes[first], changes[second]) for _, changes in every}
        assert len(pairs) == len(both[first]) * len(both[second])
    for first, second in itertools.combinations([option for option in free if option in ENCODER_SWITCHES], 2):
        beside = {(name, changes[first], changes[second]) for name, changes in every}
        assert len(beside) == len(ATTENTION_NAMES) * len(both[first]) * len(both[second])


# Every encoder without a final state with every attention; the decoder's options take turns beside them. One that is
# not named here has the options of its config file.
OWN_OPTIONS: dict[str, dict[str, tuple[Any, ...]]] = {
    "bag": {"encoder.summary": ("mean", "attention")},
    "convolution": {"encoder.summary": ("mean", "last", "attention"), "encoder.layers": (1, 2)},
    "transformer": {
        "encoder.summary": ("mean", "last", "attention"),
        "encoder.positions": ("sinusoidal", "rotary"),
        "encoder.heads": (1, 4),
    },
}
POOLED = OWN_OPTIONS | {name: {} for name in ENCODER_NAMES if name not in ("blind", "rnn", *OWN_OPTIONS)}
POOLED_SMALL = {"encoder.layers": 2, "encoder.longest_source": 5}


def pooled_combinations() -> list[tuple[str, str, dict[str, Any]]]:
    """Return encoder, attention, and changes of the config, all that are allowed."""
    decoders = itertools.cycle(itertools.product(*SWITCHES.values()))
    combinations: list[tuple[str, str, dict[str, Any]]] = []
    for encoder, options in POOLED.items():
        keys = tiny_config("none", encoder=encoder)["encoder"]
        small = {name: value for name, value in POOLED_SMALL.items() if name.split(".")[1] in keys}
        for attention, values in itertools.product(ATTENTION_NAMES, itertools.product(*options.values())):
            for decoder in decoders:
                changes = small | dict(zip(SWITCHES, decoder, strict=True)) | dict(zip(options, values, strict=True))
                changes |= {"decoder.layers": 2}
                if "summary_tanh" in keys:
                    changes["encoder.summary_tanh"] = len(combinations) % 2 == 0
                if changes["decoder.readout"] == "state":
                    sizes = ("decoder.readout_size", "decoder.embedding_size", "encoder.embedding_size")
                    changes |= dict.fromkeys(sizes, 16)
                changes["encoder.bidirectional"] = False  # For the question below alone.
                refused = reason_to_refuse(attention, changes)
                del changes["encoder.bidirectional"]
                if refused is None and changes["decoder.start"] != "pass":
                    combinations.append((encoder, attention, changes))
                    break
    return combinations


def test_encoders_without_a_final_state_run_with_every_attention() -> None:
    """Forward, backward, greedy and beam; a sample, with each encoder's every option."""
    every = pooled_combinations()
    assert {(encoder, attention) for encoder, attention, _ in every} == set(itertools.product(POOLED, ATTENTION_NAMES))
    sample = every[::11]
    for encoder, options in POOLED.items():
        for option, choices in options.items():
            assert {changes[option] for name, _, changes in sample if name == encoder} == set(choices)
    for encoder, attention, changes in sample:
        run(attention, changes, encoder)


@pytest.mark.more
@pytest.mark.slow
def test_encoders_without_a_final_state_run_with_every_attention_and_option() -> None:
    for encoder, attention, changes in pooled_combinations():
        run(attention, changes, encoder)


@pytest.mark.parametrize("encoder", POOLED)
def test_a_sequence_is_read_in_one_pass_as_step_by_step_whatever_the_encoder(encoder: str) -> None:
    model = tiny_model("multi_head", {"decoder.layers": 2}, encoder, V)
    assert model.decoder.one_pass
    torch.testing.assert_close(model(SOURCE, LENGTHS, TARGET, step_loop=True), model(SOURCE, LENGTHS, TARGET))


@pytest.mark.parametrize("tie", ["none", "output", "all"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("reverse_source", [False, True])
def test_encoder_options_and_ties_run(tie: str, bidirectional: bool, reverse_source: bool) -> None:
    changes = {"encoder.bidirectional": bidirectional, "encoder.reverse_source": reverse_source, "encoder.layers": 2}
    run("luong_local_m", changes | {"decoder.tie": tie, "attention.score": "dot"})


@pytest.mark.parametrize("feeding", [False, True])
def test_a_language_model_runs_and_does_not_read_the_source(feeding: bool) -> None:
    model = tiny_model("none", {"decoder.input_feeding": feeding}, encoder="blind")
    logits = model(SOURCE, LENGTHS, TARGET)
    torch.testing.assert_close(model(SOURCE.flip(0) + 1, LENGTHS.flip(0), TARGET), logits, rtol=0, atol=0)
    hypotheses = search(model, SOURCE, LENGTHS, settings(2))
    assert len(hypotheses) == 2


def test_a_language_model_may_start_from_zero() -> None:
    run("none", {"decoder.start": "zero", "decoder.tie": "none"}, "blind")


def test_the_decoder_of_a_language_model_has_the_sizes_of_the_one_it_is_compared_with() -> None:
    sighted, blind = (tiny_model("none", encoder=encoder).decoder.state_dict() for encoder in ("rnn", "blind"))
    assert {name: weight.shape for name, weight in sighted.items()} == {name: w.shape for name, w in blind.items()}


def test_sizes_of_both_vocabularies() -> None:
    model = build_model(tiny_config(changes={"decoder.tie": "output"}), 30, 40, joint=False)
    encoder: Any = model.encoder
    assert (encoder.embedding.num_embeddings, model.embedding.num_embeddings, model.output.out_features) == (30, 40, 40)


def test_a_fresh_tied_model_is_near_uniform() -> None:
    # Embeddings of length 1, not sqrt(E), under a tied output layer: else the first loss is many times log V.
    config = tiny_config(
        changes={"decoder.readout_size": 64, "decoder.embedding_size": 64, "encoder.embedding_size": 64}
    )
    model = build_model(config, 500, 500, joint=True).eval()
    with torch.no_grad():
        nll = model.loss(SOURCE, LENGTHS, TARGET).nll / int((TARGET[:, 1:] != PAD).sum())
    assert float(nll) == pytest.approx(torch.tensor(500.0).log().item(), rel=0.1)
    assert not model.embedding.weight[PAD].any()


DOT_UNEQUAL = {"attention.score": "dot", "decoder.hidden_size": 18}
# Attention, encoder, changes, and the parts of the message, separated by *: the option with its value, the remedy.
REFUSED: list[tuple[str, str, dict[str, Any], str]] = [
    ("none", "rnn", {"decoder.start": "zero"}, "attention=none with decoder.start=zero * set decoder.start=dense, "),
    ("luong_general", "rnn", {"encoder.summary_size": 0}, "encoder.summary_size=0 leaves decoder.start=dense * set "),
    ("fixed", "rnn", {"encoder.summary_size": 0, "decoder.start": "zero"}, "encoder.summary_size=0 * attention=fixed"),
    ("luong_general", "rnn", {"decoder.readout_size": 13}, "decoder.tie=all * set decoder.readout_size=12"),
    ("none", "rnn", {"encoder.embedding_size": 13}, "encoder.embedding_size=13 * set decoder.tie=output"),
    ("luong_dot", "rnn", {"encoder.hidden_size": 18}, "encoder.hidden_size=18: * use attention=luong_general"),
    (
        "luong_local_m",
        "rnn",
        {"attention.score": "dot", "decoder.hidden_size": 18},
        "attention.score=dot * set attention.score=gen",
    ),
    ("luong_general", "rnn", {"decoder.query_layer": "bottom"}, "decoder.query_layer=bottom: * set decoder.layers=2"),
    ("luong_general", "rnn", {"decoder.readout": "state"}, "decoder.readout=state * set decoder.readout_size=16"),
    ("luong_general", "rnn", {"decoder.residual_from": 1}, "decoder.residual_from=1: * set 2 or more"),
    ("luong_general", "rnn", {"encoder.residual_from": 2}, "encoder.residual_from=2: there are 1 layers * set "),
    ("luong_general", "rnn", {"encoder.bidirectional": "split"}, "encoder.layers=1 * encoder.bidirectional=true"),
    ("luong_general", "rnn", {"decoder.start": "pass"}, "decoder.start=pass * set encoder.summary_size=32, not 8"),
    (
        "luong_general",
        "rnn",
        {"decoder.start": "pass", "encoder.summary_size": 32, "encoder.summary_tanh": True},
        "decoder.start=pass hands * as it is: encoder.summary_tanh=true changes it: set encoder.summary_tanh=false; ",
    ),
    (
        "luong_general",
        "rnn",
        {"decoder.start": "pass", "encoder.summary_size": 32, "decoder.cell": "gru"},
        "decoder.start=pass * the encoder has 1 of h and c, each 16 wide, the decoder 1 of h, each 16 wide: * set ",
    ),
    (  # All that contradicts it, at once.
        "luong_general",
        "rnn",
        {"decoder.start": "pass", "decoder.cell": "gru", "encoder.summary_tanh": True},
        "decoder.start=pass * encoder.summary_tanh=true * the decoder 1 of h, each 16 wide: "
        "make them equal; set encoder.summary_size=32 or encoder.summary_size=16, not 8, * or set decoder.start=dense",
    ),
    *(
        ("none", name, {"decoder.start": "pass"}, f"encoder={name} has none: set decoder.start=dense")
        for name in ("bag", "convolution", "transformer")
    ),
    ("none", "bag", {"encoder.summary": "last"}, "encoder.summary=last with encoder=bag * set encoder.summary=mean"),
    ("none", "bag", {"decoder.start": "zero"}, "attention=none with decoder.start=zero * set decoder.start=dense, "),
    (
        "none",
        "bag",
        {"encoder.summary": "first"},
        "encoder.summary=first: input should be 'mean', 'last' or 'attention'",
    ),
    ("none", "bag", {"encoder.heads": 2}, "encoder.heads: no such option"),
    ("none", "convolution", {"encoder.kernel_size": 4}, "encoder.kernel_size=4 * set encoder.kernel_size=5"),
    ("none", "transformer", {"encoder.heads": 3}, "encoder.heads=3 does not divide * size=16: set encoder.heads=2"),
    ("none", "transformer", {"encoder.heads": 32}, "encoder.heads=32 does not divide * size=16: set encoder.heads=16"),
    (
        "none",
        "transformer",
        {"encoder.heads": 16, "encoder.positions": "rotary"},
        "encoder.positions=rotary * encoder.heads=16 * each 1 wide * set encoder.positions=sinusoidal",
    ),
    (
        "none",
        "transformer",
        {"encoder.positions": "learned"},
        "encoder.positions=learned: input should be 'sinusoidal'",
    ),
    ("none", "transformer", {"encoder.summary_bits": 17}, "encoder.summary_bits=17: input should be less than or"),
    ("multi_head", "rnn", {"attention.heads": 5}, "attention.heads=5 does not divide * set attention.heads=4, or make"),
    ("luong_dot", "bag", {"encoder.hidden_size": 18}, "encoder.hidden_size=18: * use attention=luong_general"),
    ("none", "blind", {"decoder.start": "pass"}, "decoder.start=pass takes 32 numbers * set encoder.summary_size=32"),
    ("luong_general", "rnn", {"encoder.hidden_size": 15}, "encoder.hidden_size=15: * encoder.bidirectional=false"),
    # Wrong types and values, unknown options, unknown choices.
    ("none", "rnn", {"encoder.colour": "red"}, "encoder.colour: no such option; encoder takes "),
    ("none", "rnn", {"attention.size": 8}, "attention.size: no such option"),
    ("none", "rnn", {"decoder.attention": "none"}, "decoder.attention: no such option"),
    ("none", "rnn", {"encoder.embedding": 8}, "encoder.embedding: no such option"),
    ("none", "blind", {"encoder.cell": "gru"}, "encoder.cell: no such option"),
    ("luong_general", "rnn", {"decoder.hidden_size": 0}, "decoder.hidden_size=0: "),
    (
        "luong_general",
        "rnn",
        {"decoder.embedding_size": "12"},
        "decoder.embedding_size=12: input should be a valid int",
    ),
    ("luong_general", "rnn", {"encoder.layers": 1.5}, "encoder.layers=1.5: input should be a valid integer"),
    ("luong_general", "rnn", {"encoder.dropout": 1.0}, "encoder.dropout=1.0: input should be less than 1"),
    ("luong_general", "rnn", {"decoder.dropout": -0.1}, "decoder.dropout=-0.1: "),
    ("luong_general", "rnn", {"decoder.query": "next"}, "decoder.query=next: input should be 'previous' or 'current'"),
    ("luong_general", "rnn", {"decoder.start": None}, "decoder.start=None: input should be 'dense', 'pass' or 'zero'"),
    (
        "luong_general",
        "rnn",
        {"decoder.input_feeding": "yes"},
        "decoder.input_feeding=yes: input should be a valid bool",
    ),
    ("luong_general", "rnn", {"decoder.tie": "some"}, "decoder.tie=some: input should be 'none', 'output' or 'all'"),
    (
        "luong_general",
        "rnn",
        {"encoder.cell": "rnn"},
        "encoder.cell=rnn: input should be 'lstm', 'gru', 'gru_cho', 'lstm_normed', 'min_gru', 'min_lstm', "
        "'linear_attention', 'mlstm', 'delta_net' or 'selective_ssm'; one of your own needs plugins=[MODULE]",
    ),
    (
        "luong_general",
        "rnn",
        {"decoder.cell": "mlstm", "decoder.hidden_size": 18},
        "decoder.hidden_size=18: decoder.cell=mlstm * set decoder.hidden_size to a multiple of 4, such as 16 or 20",
    ),
    (
        "luong_general",
        "rnn",
        {"encoder.cell": "delta_net", "encoder.hidden_size": 4},
        "encoder.hidden_size=4: encoder.cell=delta_net * two directions: set encoder.hidden_size to a multiple of 8, ",
    ),
    (
        "luong_general",
        "rnn",
        {"encoder.cell": "mlstm", "decoder.cell": "mlstm", "decoder.start": "pass", "encoder.summary_size": 152},
        "decoder.start=pass * the encoder has 1 of h, C, n and m, * the decoder 1 of h, C, n and m, 16, 4x4x4, 4x4 "
        "and 4: make them equal; * not 152, the numbers of the states that you choose; or set decoder.start=dense",
    ),
    ("bahdanau", "rnn", {"attention.size": 0}, "attention.size=0: input should be greater than 0"),
    (
        "luong_general",
        "rnn",
        {"attention.name": "luong"},
        "attention.name=luong: no such choice; choose from bahdanau, ",
    ),
    ("luong_general", "rnn", {"attention.name": ["none"]}, "attention.name=['none']: no such choice; choose from "),
    (
        "luong_general",
        "rnn",
        {"encoder.name": None},
        "encoder.name=None: no such choice; choose from bag, blind, convolution, features, rnn, transformer",
    ),
]
# Attentions that read encoder states cannot read those of the blind encoder.
REFUSED += [
    (name, "blind", {}, f"attention={name} * encoder=blind has none: set attention=none")
    for name in ATTENTION_NAMES
    if name not in UNREAD
]
# Nothing in a config names a Python object.
for path in ("torch.nn.Linear", "hourglass.models.attention.MeanAttention", "builtins.eval", "__class__"):
    REFUSED += [
        ("luong_general", "rnn", {"attention.name": path}, f"attention.name={path}: no such choice"),
        ("luong_general", "rnn", {"encoder.name": path}, f"encoder.name={path}: no such choice"),
        ("luong_general", "rnn", {"decoder.cell": path}, f"decoder.cell={path}: input should be"),
        ("luong_local_m", "rnn", {"attention.score": path}, f"attention.score={path}: input should be"),
        ("luong_general", "rnn", {"decoder._target_": path}, "decoder._target_: no such option"),
        ("luong_general", "rnn", {"encoder._target_": path}, "encoder._target_: no such option"),
    ]


@pytest.mark.parametrize(("attention", "encoder", "changes", "message"), REFUSED)
def test_refusals_name_option_and_remedy(attention: str, encoder: str, changes: dict[str, Any], message: str) -> None:
    pattern = ".*".join(re.escape(part) for part in message.split(" * "))
    config = tiny_config(attention, changes, encoder)
    with pytest.raises(UserError, match=pattern):
        build_model(config, V, V, joint=True)


def test_one_matrix_needs_one_vocabulary() -> None:
    with pytest.raises(UserError, match=r"decoder\.tie=all needs one vocabulary: set tokenizer\.joint=true, or dec"):
        build_model(tiny_config(), V, V, joint=False)


@pytest.mark.parametrize(
    ("group", "option"),
    [
        (group, option)
        for group in ("encoder", "attention", "decoder")
        for option in tiny_config("luong_local_p")[group]
        # Checkpoints of earlier versions lack these.
        if option not in ("summary_bits", "patches", "copy", "gate_context", "doubly_stochastic")
    ],
)
def test_a_missing_option_is_named(group: str, option: str) -> None:
    config = tiny_config("luong_local_p")
    del config[group][option]
    with pytest.raises(UserError, match=rf"^{group}\.{option}\b"):
        build_model(config, V, V, joint=True)


def test_the_config_is_left_as_it_was() -> None:
    # It is stored in checkpoints and logged after the model is built.
    config, before = tiny_config("bahdanau"), tiny_config("bahdanau")
    build_model(config, V, V, joint=True)
    assert config == before
