"""Models that read features: against numpy, whatever stands at padding, and what is refused."""

from typing import Any

import numpy as np
import pytest
import torch
from helpers import ENCODER_NAMES, compose_config, tiny_config
from torch import nn

from hourglass.data.encoded import pad_sources
from hourglass.errors import UserError
from hourglass.models.build import build_model
from hourglass.models.inputs import FeatureProjection, PatchConvolution
from hourglass.models.loss import doubly_stochastic_penalty
from hourglass.models.seq2seq import Seq2Seq
from hourglass.training.settings import check_settings

WIDTH = 5
# Every encoder that reads a source.
ENCODERS = sorted({*ENCODER_NAMES, "features"} - {"blind"})


def features_model(encoder: str, attention: str = "luong_general", **changes: Any) -> Seq2Seq:
    """Return a model in float64, for evaluation, of features of WIDTH numbers; changes are of GROUP_KEY."""
    config = tiny_config(attention, {key.replace("_", ".", 1): value for key, value in changes.items()}, encoder)
    config["data"] = {**config["data"], "feature_size": WIDTH}
    torch.manual_seed(1)
    model = build_model(config, 20, 20, joint=True).double().eval()
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.4)
    return model


def pictures(*regions: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.normal(size=(count, WIDTH)).astype(np.float32) for count in regions]


def encode(model: Seq2Seq, sources: list[np.ndarray]) -> Any:
    return model.encode(pad_sources(sources).double(), torch.tensor([len(source) for source in sources]))


def test_the_encoder_is_its_equations() -> None:
    model = features_model("features", decoder_tie="output")
    (picture,) = pictures(4)
    regions = np.random.default_rng(5).normal(3, 2, size=(50, WIDTH))
    assert isinstance(model.encoder.embedding, FeatureProjection)
    model.encoder.embedding.standardise(torch.from_numpy(regions))
    memory = encode(model, [picture])
    weights = {name: weight.numpy() for name, weight in model.encoder.state_dict().items()}
    states = []
    for place, region in enumerate(picture.astype(np.float64)):
        standard = (region - regions.mean(0)) / regions.std(0)
        vector = weights["embedding.project.weight"] @ standard + weights["embedding.project.bias"]
        hidden = np.maximum(0, np.sqrt(len(vector)) * (vector + weights["positions"][place]))
        states.append(weights["project.weight"] @ hidden + weights["project.bias"])
    np.testing.assert_allclose(memory.states[0].detach().numpy(), states, rtol=1e-10)
    summary = weights["summarise.weight"] @ np.mean(states, 0) + weights["summarise.bias"]
    np.testing.assert_allclose(memory.summary[0].detach().numpy(), summary, rtol=1e-10)


def test_first_vectors_are_as_long_as_embeddings_whatever_the_scale_of_the_features() -> None:
    layer = FeatureProjection(40, 64)
    features = torch.rand(30, 7, 40)
    for scale in (0.01, 1.0, 500.0):
        layer.standardise(scale * features.flatten(0, 1))
        lengths = layer(scale * features).norm(dim=-1)
        assert float(lengths.detach().mean()) == pytest.approx(1, abs=0.1)


def test_a_number_that_is_always_the_same_is_not_divided_by_its_spread() -> None:
    layer = FeatureProjection(2, 3)
    layer.standardise(torch.tensor([[5.0, 1.0], [5.0, 3.0]]))
    torch.testing.assert_close(layer.mean, torch.tensor([5.0, 2.0]))
    torch.testing.assert_close(layer.spread, torch.tensor([1.0, 1.0]))


@pytest.mark.parametrize("patch", [2, 5, 6])
def test_patches_are_convolved_by_the_equations(patch: int) -> None:
    """Pixel by pixel: zeros outside of a patch, the largest of 2 x 2, and no patch in another's vector."""
    layer, width = PatchConvolution(patch, 7).double(), 3 * patch**2
    random = np.random.default_rng(1)
    regions = random.normal(0.4, 0.2, size=(40, width)) + np.tile([0.3, 0.0, 2.0], patch**2)
    layer.standardise(torch.from_numpy(regions))
    colours = regions.reshape(-1, 3)
    np.testing.assert_allclose(layer.mean, colours.mean(0))
    np.testing.assert_allclose(layer.spread, colours.std(0))
    weights = {name: weight.numpy() for name, weight in layer.state_dict().items()}

    def convolved(pixels: np.ndarray, name: str) -> np.ndarray:
        side, kernel, bias = len(pixels), weights[f"{name}.weight"], weights[f"{name}.bias"]
        around = np.pad(pixels, ((1, 1), (1, 1), (0, 0)))
        found = np.zeros((side, side, len(bias)))
        for row, column in np.ndindex(side, side):
            window = around[row : row + 3, column : column + 3]  # [3, 3, channels]
            found[row, column] = np.maximum(0, np.einsum("ocij,ijc->o", kernel, window) + bias)
        half = -(-side // 2)
        return np.array(
            [[found[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max((0, 1)) for j in range(half)] for i in range(half)]
        )

    batch = regions[:6].reshape(2, 3, width)
    vectors = layer(torch.from_numpy(batch)).detach().numpy()
    for place in np.ndindex(2, 3):
        pixels = (batch[place].reshape(patch, patch, 3) - colours.mean(0)) / colours.std(0)
        found = convolved(convolved(pixels, "first"), "second")
        expected = weights["project.weight"] @ found.transpose(2, 0, 1).ravel() + weights["project.bias"]
        np.testing.assert_allclose(vectors[place], expected, rtol=1e-10, atol=1e-12)


def test_convolved_patches_are_first_as_long_as_embeddings() -> None:
    layer = PatchConvolution(6, 192)
    patches = torch.rand(20, 36, 108)
    layer.standardise(patches.flatten(0, 1))
    assert float(layer(patches).norm(dim=-1).detach().mean()) == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_encoder_reads_convolved_patches(encoder: str) -> None:
    """And what stands at padding changes nothing."""
    config = tiny_config("bahdanau", {"encoder.patches": "convolved"}, encoder)
    config["data"] = {**config["data"], "feature_size": 12, "patch": 2}
    model = build_model(config, 20, 20, joint=True).double().eval()
    assert isinstance(model.encoder.embedding, PatchConvolution)
    random, lengths = np.random.default_rng(0), torch.tensor([4, 2])
    sources = [random.uniform(size=(count, 12)).astype(np.float32) for count in (4, 2)]
    padded = pad_sources(sources).double()
    noisy = padded.clone()
    noisy[1, 2:] = 7.0
    for batch in (padded, noisy):
        memory = model.encode(batch, lengths)
        for row, source in enumerate(sources):
            torch.testing.assert_close(memory.states[row, : len(source)], encode(model, [source]).states[0])
    memory.states.square().sum().backward()
    assert all(weight.grad is not None for weight in model.encoder.embedding.parameters())


@pytest.mark.parametrize(("data", "found"), [({}, "texts"), ({"feature_size": 12}, "features that are no pixels")])
def test_patches_to_convolve_are_those_of_pictures(data: dict[str, int], found: str) -> None:
    config = tiny_config("bahdanau", {"encoder.patches": "convolved"})
    config["data"] = {**config["data"], **data}
    message = f"^encoder.patches=convolved reads patches of pictures, and the corpus has {found}: set encoder.patches="
    with pytest.raises(UserError, match=message):
        build_model(config, 20, 20, joint=True)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("attention", ["none", "fixed", "bahdanau", "mean"])
def test_padding_changes_nothing(encoder: str, attention: str) -> None:
    """Neither states, summary nor logits of a picture hang on its neighbours in a batch, or on what pads it."""
    model = features_model(encoder, attention, decoder_query="previous")
    sources, target = pictures(6, 3, 1), torch.tensor([[1, 7, 9]] * 3)
    padded, lengths = pad_sources(sources).double(), torch.tensor([6, 3, 1])
    assert padded.shape == (3, 6, WIDTH)
    noisy = padded.clone()
    noisy[1, 3:], noisy[2, 1:] = 7.0, -3.0
    for batch in (padded, noisy):
        memory, logits = model.encode(batch, lengths), model(batch, lengths, target)
        for row, source in enumerate(sources):
            own = encode(model, [source])
            torch.testing.assert_close(memory.states[row, : len(source)], own.states[0])
            torch.testing.assert_close(memory.summary[row], own.summary[0])
            alone = model(pad_sources([source]).double(), lengths[row : row + 1], target[:1])
            torch.testing.assert_close(logits[row], alone[0])


@pytest.mark.parametrize("directions", [False, True, "split"])
def test_features_are_read_in_reverse_to_the_last(directions: Any) -> None:
    """They have no end-of-sentence that would stay the last."""
    changes = {"encoder_bidirectional": directions, "encoder_layers": 2, "decoder_start": "dense"}
    plain = features_model("rnn", encoder_reverse_source=False, **changes)
    reverse = features_model("rnn", encoder_reverse_source=True, **changes)
    reverse.load_state_dict(plain.state_dict())
    sources = pictures(5, 2)
    turned = encode(plain, [source[::-1] for source in sources])
    memory = encode(reverse, sources)
    torch.testing.assert_close(memory.summary, turned.summary)
    for row, source in enumerate(sources):
        torch.testing.assert_close(memory.states[row, : len(source)], turned.states[row, : len(source)].flip(0))


def test_an_empty_source_is_one_region_of_zeros() -> None:
    first, second = pictures(3, 2)
    padded = pad_sources([first, second[:0]])
    assert padded.shape == (2, 3, WIDTH)
    assert not padded[1].any()


def test_a_source_without_embedding_ties_only_the_target() -> None:
    model = features_model("rnn", decoder_tie="all")
    assert model.output.weight is model.embedding.weight
    assert isinstance(model.encoder.embedding, FeatureProjection)
    names = {name for name, _ in model.named_parameters() if "embedding" in name}
    own = {f"encoder.embedding.project.{name}" for name in ("weight", "bias")}
    assert names == {"embedding.weight", *own}


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_step_trains_every_weight(encoder: str) -> None:
    model = features_model(encoder)
    sources = pictures(4, 2)
    loss = model.loss(pad_sources(sources).double(), torch.tensor([4, 2]), torch.tensor([[1, 8, 9, 2]] * 2))
    loss.smoothed.backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()] == []


SHAPES = ("data=shapes",)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["encoder=features"], r"encoder=features reads features and the corpus has texts: set encoder=rnn"),
        ([*SHAPES, "encoder.embedding_file=vectors"], r"encoder\.embedding_file: the corpus has features"),
        ([*SHAPES, "encoder=transformer", "encoder.summary=last"], r"encoder\.summary=last is the state of end-of"),
        ([*SHAPES, "tokenizer=word", "search.replace_unknown=true"], r"search\.replace_unknown=true inserts words of"),
        ([*SHAPES, "encoder=features", "decoder.start=pass"], r"decoder\.start=pass hands over final states, and enc"),
        (["decoder.doubly_stochastic=1", "attention=fixed"], r"decoder\.doubly_stochastic=1 is of attention weights"),
        (["decoder.gate_context=true", "attention=none"], r"decoder\.gate_context=true: attention=none has no context"),
        (
            ["decoder.doubly_stochastic=1", "trainer.scheduled_sampling=0.1"],
            r"decoder\.doubly_stochastic=1 with trainer\.scheduled_sampling=0\.1",
        ),
    ],
)
def test_what_is_of_texts_alone_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        check_settings(compose_config(*overrides))
    assert "\n" not in str(refused.value)


def test_more_regions_than_positions_are_refused() -> None:
    model = features_model("features", encoder_longest_source=3)
    with pytest.raises(
        UserError, match=r"positions of 3 regions and a source of test has 4: set encoder\.longest_sour"
    ):
        model.check_length(4, "test")
    features_model("features", encoder_longest_source=3, encoder_positions="none").check_length(4, "test")


# ---- What Xu et al. 2015 add to the decoder ----


def test_the_penalty_is_counted_over_real_positions() -> None:
    weights = torch.rand(2, 3, 4).softmax(-1)
    lengths, steps = [4, 2], [3, 2]
    mask = torch.arange(4) < torch.tensor(lengths).unsqueeze(1)
    real = torch.arange(3) < torch.tensor(steps).unsqueeze(1)
    expected = sum(
        (1 - sum(float(weights[b, t, i]) for t in range(steps[b]))) ** 2 for b in range(2) for i in range(lengths[b])
    )
    assert float(doubly_stochastic_penalty(weights, mask, real)) == pytest.approx(expected, rel=1e-6)


def test_the_penalty_is_in_what_training_minimises_alone() -> None:
    plain, penalised = features_model("features"), features_model("features", decoder_doubly_stochastic=0.7)
    penalised.load_state_dict(plain.state_dict())
    batch = pad_sources(pictures(4, 2)).double(), torch.tensor([4, 2]), torch.tensor([[1, 8, 9, 2], [1, 7, 2, 0]])
    with torch.no_grad():
        before, after = plain.loss(*batch, 0.1), penalised.loss(*batch, 0.1)
    assert float(after.nll) == pytest.approx(float(before.nll))
    memory = plain.encode(*batch[:2])
    weights = plain.decoder(plain.embedding(batch[2][:, :-1]), memory)[1]
    assert weights is not None
    penalty = doubly_stochastic_penalty(weights, memory.mask, batch[2][:, 1:] != 0)
    assert float(after.smoothed - before.smoothed) == pytest.approx(0.7 * float(penalty))


@pytest.mark.parametrize("query", ["previous", "current"])
@pytest.mark.parametrize("attention", ["luong_general", "mean", "fixed"])
def test_the_gate_multiplies_the_context(attention: str, query: str) -> None:
    """A gate whose weights are zero halves the context, as half of the values do; and steps equal the pass at once."""
    model = features_model("features", attention, decoder_gate_context=True, decoder_query=query)
    memory, embeddings = encode(model, pictures(4, 2)), torch.randn(2, 5, 12, dtype=torch.double)
    at_once, looped = (model.decoder(embeddings, memory, step_loop)[0] for step_loop in (False, True))
    torch.testing.assert_close(at_once, looped)
    plain = features_model("features", attention, decoder_query=query)
    plain.load_state_dict({name: weight for name, weight in model.state_dict().items() if "gate" not in name})
    assert model.decoder.gate is not None
    nn.init.constant_(model.decoder.gate.weight, 0.0)
    nn.init.constant_(model.decoder.gate.bias, 30.0)
    torch.testing.assert_close(model.decoder(embeddings, memory)[0], plain.decoder(embeddings, memory)[0])
    assert not torch.allclose(at_once, plain.decoder(embeddings, memory)[0])
