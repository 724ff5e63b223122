"""What a fresh decoder reads out of the vector of a trained encoder, beside that encoder's own decoder.

The fresh decoder reads the vector at every step (attention=fixed) and is trained for as long, with the same settings,
while the encoder does not move (`training.freezing`). Then

    bits of the own decoder - bits of the fresh one      were in the vector, and the own decoder left them unused;
    bits of the fresh one - bits of a run of attention=fixed whose encoder was trained together with its decoder
                                                         were not put into the vector.

All are bits that a decoder needs for the references of test, so no blind decoder takes part.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from hourglass.analysis.comparability import check_shared
from hourglass.analysis.likelihoods import best_temperature, encode_split
from hourglass.analysis.probes import ProbeResult, check_probed
from hourglass.config.compose import compose_settings
from hourglass.config.differences import changes, differences
from hourglass.config.options import Config
from hourglass.config.plugins import plugin_words
from hourglass.errors import UserError
from hourglass.metrics.likelihood import mean_quantity, reference_nats, sentence_bits
from hourglass.metrics.significance import Difference, Estimate, Quantity, compare_quantities, draw_resamples, pool
from hourglass.runs.folder import RunFolder, create_run, open_run, write_config
from hourglass.system.commands import path_override
from hourglass.system.records import write_record
from hourglass.training.finished import FinishedRun
from hourglass.training.freezing import FROZEN_ENCODER, check_frozen_encoder, has_frozen_encoder
from hourglass.training.jobs import run_training
from hourglass.training.settings import check_to_read

# Of the dataclasses below and those of `probes`, as in `information`.
SCHEMA_VERSION = 1
# The folder of the fresh decoder's run is that of the encoder's run with this behind its name.
SUFFIX = "-frozen"


@dataclass(frozen=True)
class FrozenReading:
    """Bits per test sentence by three decoders.

    Attributes:
        run: path of the run whose encoder it is.
        fresh: path of the run with the fresh decoder.
        joint: path of the run whose encoder and decoder were trained together; None: there is none.
        own_bits: that the encoder's own decoder needs.
        fresh_bits: that the fresh decoder needs.
        joint_bits: that the jointly trained decoder needs.
        unused: own less fresh.
        lacking: fresh less joint.
    """

    run: str
    fresh: str
    joint: str | None
    own_bits: Estimate
    fresh_bits: Estimate
    joint_bits: Estimate | None
    unused: Difference
    lacking: Difference | None


@dataclass(frozen=True)
class EncoderFindings:
    """The content of probes.json: what several encoders have put into their vectors.

    Attributes:
        probes: of each run.
        frozen: of each run whose encoder a fresh decoder was trained on.
    """

    probes: list[ProbeResult]
    frozen: list[FrozenReading]


def write_findings(file: Path, findings: EncoderFindings) -> None:
    """Write probes.json."""
    write_record(file, findings, SCHEMA_VERSION)


def fresh_config(run: FinishedRun) -> Config:
    """Return the settings of a run with a fresh decoder on the frozen encoder of another.

    Raises:
        UserError: that run has no fixed vector.
    """
    check_probed(run)
    config = {
        **run.config,
        FROZEN_ENCODER: str(run.path.resolve()),
        "run_dir": str(fresh_folder(run)),
        "start_from": None,
        "fingerprint": None,  # That of the ablation's variant, which this is not.
    }
    config["attention"] = compose_settings(["attention=fixed"])["attention"]
    if config["decoder"]["query"] == run.config["attention"]["query"]:  # It followed the attention.
        config["decoder"] = {**config["decoder"], "query": config["attention"]["query"]}
    check_frozen_encoder(config)
    check_to_read(config)
    return config


def fresh_folder(run: FinishedRun) -> Path:
    """Return the folder of the run with a fresh decoder."""
    path = run.path.resolve()
    return path.with_name(f"{path.name}{SUFFIX}")


def train_fresh(run: FinishedRun, output: IO[str] | None = None) -> FinishedRun:
    """Return the finished run with a fresh decoder on a run's frozen encoder, after its training where it is missing.

    A training that was broken off goes on.

    Args:
        run: whose encoder is frozen.
        output: the file for what the training prints; None: the output of this process.

    Raises:
        UserError: the run has no fixed vector, the folder holds a run of other settings, or the training failed.
    """
    config, path = fresh_config(run), fresh_folder(run)
    if not RunFolder(path).config.exists():
        write_config(create_run(str(path), [], continues=False), config)
    folder, present = open_run(str(path), "run")
    if changed := changes(present, config):
        raise UserError(f"{path}: holds a run of other settings ({', '.join(changed)}): move it away")
    if not folder.metrics.exists():
        run_training([*plugin_words(), path_override("resume", path)], output)
    return FinishedRun.open(path)


def read_frozen(run: FinishedRun, fresh: FinishedRun, joint: FinishedRun | None, resamples: int) -> FrozenReading:
    """Read the bits that the decoders need for the references of test.

    Args:
        run: whose encoder it is.
        fresh: with the fresh decoder.
        joint: of attention=fixed, whose encoder and decoder were trained together.
        resamples: of the bootstrap over sentences.

    Raises:
        UserError: the runs differ in what makes their likelihoods incomparable, or are not what they should be.
    """
    others = [fresh] if joint is None else [fresh, joint]
    for other in others:
        check_shared(run, other)
    if joint is not None:
        check_joint(run, joint)
    quantities: list[Quantity] = []
    counts = None
    for each in (run, *others):
        bits = _needed(each)
        counts = draw_resamples(len(bits), resamples) if counts is None else counts
        quantities.append(mean_quantity([bits], counts))
    own, by_fresh, *by_joint = quantities
    return FrozenReading(
        run=str(run.path),
        fresh=str(fresh.path),
        joint=None if joint is None else str(joint.path),
        own_bits=own.estimate,
        fresh_bits=by_fresh.estimate,
        joint_bits=by_joint[0].estimate if by_joint else None,
        unused=compare_quantities(own, by_fresh, pool([])),
        lacking=compare_quantities(by_fresh, by_joint[0], pool([])) if by_joint else None,
    )


def check_joint(run: FinishedRun, joint: FinishedRun) -> None:
    """Check that a run has the same encoder as another, attention=fixed, and an encoder of its own.

    Raises:
        UserError: it does not.
    """
    if joint.config["attention"]["name"] != "fixed" or has_frozen_encoder(joint.config):
        raise UserError(f"joint={joint.path}: not a run of attention=fixed whose encoder was trained with its decoder")
    if differing := differences(run.config["encoder"], joint.config["encoder"]):
        names = ", ".join(f"encoder.{name}" for name in differing)
        raise UserError(f"joint={joint.path}: has another {names} than {run.path}: train both with the same")


def _needed(run: FinishedRun) -> np.ndarray:
    trained, prepared = run.trained, run.prepared
    dev, test = (encode_split(trained, prepared, name) for name in ("dev", "test"))
    temperature = best_temperature(run, trained, dev)
    return sentence_bits(reference_nats(trained.model, test, temperature=temperature))
