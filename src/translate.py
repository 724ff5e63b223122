"""Translate lines by a trained model: python src/translate.py run=PATH < in.txt > out.txt"""

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

import hydra
import torch
from omegaconf import DictConfig, OmegaConf
from pydantic import NonNegativeInt

from hourglass.checkpoints import load_trained
from hourglass.corpora_recipes import decode_line
from hourglass.devices import Accelerator, find_device
from hourglass.errors import UserError, check_command_line, one_line_errors
from hourglass.options import build, plain_values
from hourglass.runs import open_run
from hourglass.search import SearchSettings
from hourglass.translation import progress_bar, translate


@dataclass(frozen=True)
class TranslateSettings:
    """conf/translate.yaml, but for the group `search`.

    Attributes:
        run: the run folder.
        checkpoint: best on dev, or the last.
        accelerator: cpu, gpu, or auto for the best there is.
        threads: CPU threads; 0 leaves torch's choice.
    """

    run: str
    checkpoint: Literal["best", "last"]
    accelerator: Accelerator
    threads: NonNegativeInt


@hydra.main(config_path="../conf", config_name="translate", execution_whitelist=())
def main(composed: DictConfig) -> None:
    """Translate standard input to standard output, line by line."""
    with one_line_errors():
        if OmegaConf.is_missing(composed, "run"):
            raise UserError("run: not set; python src/translate.py run=PATH < in.txt > out.txt, PATH a run folder")
        config = plain_values(composed)
        chosen = config.pop("search", None)
        settings = build(TranslateSettings, config, "translate")
        run, trained_by = open_run(settings.run, "run")
        search = build(SearchSettings, chosen or trained_by.get("search", {}), "search")
        trained = load_trained(run.best if settings.checkpoint == "best" else run.last)
        if settings.threads:
            torch.set_num_threads(settings.threads)
        model = trained.model.to(find_device(settings.accelerator))
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")  # whatever the locale says
        lines = read(sys.stdin.buffer)
        with progress_bar(None, "lines") as bar:
            for line in translate(model, trained.vocabularies, lines, search, progress=bar.update):
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()


def read(stream: BinaryIO) -> Iterator[str]:
    """Yield the lines of a UTF-8 stream as a corpus has them, one sentence each.

    Raises:
        UserError: a line is not UTF-8 or holds a NUL.
    """
    for number, raw in enumerate(stream, 1):
        yield decode_line(raw, "standard input", number)


if __name__ == "__main__":
    check_command_line("translate")
    main()
