"""A trained model as MLflow's own kind (pyfunc), which outlives this repository: strings in, translations out.

A packed model is a folder: the checkpoint (settings, vocabularies and weights, nothing pickled), this package's code,
the few libraries that it needs, and a signature. It is loaded by running `served_model.py`, and no pickle.
"""

import importlib.metadata
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import torch
from mlflow.models import ModelSignature
from mlflow.pyfunc.model import PythonModel
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

from hourglass.checkpoints import load_trained, read
from hourglass.errors import UserError
from hourglass.options import build
from hourglass.search import SearchSettings
from hourglass.translation import translate_n_best
from hourglass.word_alignment import check_weights, read_weights, to_pharaoh, word_weights

CHECKPOINT = "checkpoint"
# All that translating imports; MLflow itself comes with whatever loads the model.
NEEDS = ("mlflow", "numpy", "omegaconf", "pandas", "pydantic", "sentencepiece", "torch", "tqdm")
SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(DataType.string, "source")]),
    outputs=Schema(
        [
            ColSpec(DataType.string, "translation"),
            ColSpec(DataType.double, "score"),
            ColSpec(DataType.string, "alignment", required=False),
        ]
    ),
    params=ParamSchema([ParamSpec("alignments", DataType.boolean, False), ParamSpec("beam", DataType.long, 0)]),
)


class ServedModel(PythonModel):
    """Translates. Its parameters: `alignments`, whether to say them; `beam`, 0 for that of the run."""

    def load_context(self, context: Any) -> None:
        """Load the checkpoint that lies in the packed model."""
        self.trained = load_trained(Path(context.artifacts[CHECKPOINT]))
        self.search = build(SearchSettings, self.trained.config["search"], "search")

    def predict(
        self,
        context: Any,
        model_input: Any,  # Typed, MLflow would take it for a signature of its own kind.
        params: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return a row for each input: translation, score, and the alignment as i-j, source and target word from 0.

        Args:
            context: unused.
            model_input: the column `source`, or strings.
            params: see the class.

        Raises:
            UserError: alignments are asked of a model without attention weights, or the beam is no number above 0.
        """
        wanted = dict(params or {})
        sources = [
            str(text) for text in (model_input["source"] if isinstance(model_input, pd.DataFrame) else model_input)
        ]
        search = self.search
        if beam := int(wanted.get("beam") or 0):
            search = build(SearchSettings, vars(search) | {"beam": beam}, "search")
        model, vocabularies = self.trained.model, self.trained.vocabularies
        aligns = bool(wanted.get("alignments"))
        if aligns:
            check_weights([model], "alignments=true")
        found = [best for best, *_ in translate_n_best([model], vocabularies, sources, search, 1)]
        table = pd.DataFrame({"translation": [one.text for one in found], "score": [one.score for one in found]})
        if aligns:
            ids = vocabularies.source.encode(sources)
            weights = read_weights([model], ids, [one.tokens for one in found])
            table["alignment"] = [
                to_pharaoh(
                    word_weights(own, vocabularies.source.pieces(source), vocabularies.target.pieces(one.tokens))
                )
                for own, source, one in zip(weights, ids, found, strict=True)
            ]
        return table


def pack(checkpoint: Path, folder: Path, example: str) -> None:
    """Write a packed model.

    Args:
        checkpoint: of a run, such as its best.
        folder: to make.
        example: a sentence, for those who look what goes in.

    Raises:
        UserError: the folder is there already, or the checkpoint is none.
    """
    if folder.exists():
        raise UserError(f"{folder}: there already: remove it, or name another")
    content = read(checkpoint)
    load_trained(checkpoint)  # Says in its line what is wrong, before anything is written.
    package = Path(__file__).resolve().parent
    kept = {name: content[name] for name in ("hourglass", "state_dict", "global_step")}
    with tempfile.TemporaryDirectory() as scratch:
        small = Path(scratch) / "model.ckpt"
        torch.save(kept, small)  # Without what only training wants.
        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(package / "served_model.py"),
            artifacts={CHECKPOINT: str(small)},
            code_paths=[str(package)],
            signature=SIGNATURE,
            input_example=pd.DataFrame({"source": [example]}),
            pip_requirements=[f"{name}=={_version(name)}" for name in NEEDS],
        )


def _version(name: str) -> str:
    """Return the version of a library, without the name of its build (2.13.0+cpu), which no index has."""
    return importlib.metadata.version(name).partition("+")[0]
