"""The numbers and bits of a neck, by the settings of a run, against the model itself."""

import pytest
import torch
from helpers import compose_config

from hourglass.analysis.neck import Neck, neck_of
from hourglass.models.build import build_model
from hourglass.models.memory import Memory
from hourglass.models.recurrent import CELLS
from hourglass.models.seq2seq import Seq2Seq

PASSED = ("decoder.start=pass", "encoder.bidirectional=false", "encoder.hidden_size=8", "decoder.hidden_size=8")


@pytest.mark.parametrize(
    ("words", "neck", "text"),
    [
        (("attention=none",), Neck(256, 8192, False), "256, 8,192 bits"),
        (("attention=fixed", "encoder.summary_size=4"), Neck(4, 128, False), "4, 128 bits"),
        (("attention=fixed", "encoder.summary_size=4", "encoder.summary_bits=2"), Neck(4, 8, False), "4, 8 bits"),
        (("attention=luong_dot",), Neck(256, 8192, False), "256, 8,192 bits"),
        (("attention=luong_dot", "decoder.start=zero"), Neck(0, 0, False), "none"),
        (("attention=fixed", "decoder.start=zero"), Neck(256, 8192, False), "256, 8,192 bits"),
        (("attention=none", "encoder=blind"), Neck(0, 0, False), "none"),
        (("attention=mean", "decoder.start=zero"), Neck(256, 8192, False), "256, 8,192 bits"),
        (
            ("attention=mean", "encoder.summary_size=4", "encoder.summary_bits=2"),
            Neck(260, 8200, False),
            "260, 8,200 bits",
        ),
        (("attention=none", *PASSED, "encoder.summary_size=16"), Neck(16, 512, True), "16 (a state), 512 bits"),
        (
            ("attention=none", *PASSED, "encoder.cell=delta_net", "decoder.cell=delta_net", "encoder.summary_size=24"),
            Neck(16, 512, True),
            "16 (a state), 512 bits",
        ),
        (
            ("attention=fixed", *PASSED, "encoder.cell=delta_net", "decoder.cell=delta_net", "encoder.summary_size=24"),
            Neck(24, 768, True),
            "24 (a state), 768 bits",
        ),
        (
            ("attention=bahdanau", *PASSED, "encoder.cell=mlstm", "decoder.cell=mlstm", "encoder.summary_size=36"),
            Neck(36, 1152, True),
            "36 (a state), 1,152 bits",
        ),
        (
            ("attention=none", *PASSED, "encoder.summary_size=16", "encoder.summary_bits=3"),
            Neck(16, 48, True),
            "16 (a state), 48 bits",
        ),
    ],
)
def test_the_neck_is_that_of_the_model(words: tuple[str, ...], neck: Neck, text: str) -> None:
    config = compose_config(*words)
    assert neck_of(config) == neck
    assert str(neck) == text
    model = build_model(config, 20, 20, joint=True)
    memory = model.encode(torch.tensor([[5, 6, 2]]), torch.tensor([3]))
    if neck.is_state:
        assert memory.summary.shape[1] == CELLS[config["decoder"]["cell"]].state_size(8)
        assert read_numbers(model, memory) == neck.numbers
    elif config["encoder"]["name"] != "blind":
        mean = memory.states.shape[2] if config["attention"]["name"] == "mean" else 0
        assert memory.summary.shape[1] + mean == neck.numbers


def read_numbers(model: Seq2Seq, memory: Memory) -> int:
    """Return how many numbers of the summary change what the decoder puts out."""
    model.double().eval()
    torch.manual_seed(0)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    summary = torch.rand(memory.summary.shape, dtype=torch.float64, requires_grad=True)
    wide = memory._replace(states=memory.states.double().detach(), summary=summary)
    readouts, _ = model.decoder(torch.randn(1, 3, model.decoder.settings.embedding_size, dtype=torch.float64), wide)
    (gradient,) = torch.autograd.grad(readouts.sum(), summary)
    return int((gradient != 0).sum())
