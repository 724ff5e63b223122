"""A trained model as MLflow's own kind (pyfunc), which outlives this repository: strings in, translations out.

A packed model is a folder: the checkpoint (settings, vocabularies and weights, nothing pickled), this package's code,
the few libraries that it needs, and a signature. It is loaded by running `served_model.py`, and no pickle.
"""

import importlib.metadata
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

from hourglass.config.options import build
from hourglass.decoding.search import SearchSettings
from hourglass.decoding.translate import clean, translate_n_best
from hourglass.decoding.word_alignment import (
    check_weights,
    read_weights,
    source_words,
    target_words,
    to_pharaoh,
    word_weights,
)
from hourglass.errors import UserError
from hourglass.models.checkpoint import load_trained, read
from hourglass.runs.folder import RunFolder
from hourglass.runs.translations import read_translations
from hourglass.system.files import writing
from hourglass.system.project import PACKAGE
from hourglass.tracking.server import quiet

CHECKPOINT = "checkpoint"


# The widest beam that a request may ask for.
WIDEST = 50


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


with warnings.catch_warnings(record=True):  # MLflow wants type hints to check inputs by; the signature does that.

    class ServedModel(PythonModel):
        """Translates. Its parameters: `alignments`, whether to say them; `beam`, 0 for that of the run."""

        def load_context(self, context: Any) -> None:
            """Load the checkpoint that lies in the packed model."""
            self.trained = load_trained(Path(context.artifacts[CHECKPOINT]))
            self.search = build(SearchSettings, self.trained.config["search"], "search")

        def predict(
            self,
            context: Any,
            model_input: Any,
            params: Mapping[str, Any] | None = None,
        ) -> pd.DataFrame:
            """Return a row for each input: translation, score, and the alignment as i-j, source and target word from 0.

            Args:
                context: unused.
                model_input: a table with the column `source`.
                params: see the class.

            Raises:
                MlflowException: alignments are asked of a model without attention weights, a beam is too wide, or a
                    source is no text; a server answers 400 with its line.
            """
            try:
                return self._translate(list(model_input["source"]), dict(params or {}))
            except UserError as error:
                raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from None

        def _translate(self, sources: list[Any], params: dict[str, Any]) -> pd.DataFrame:
            for number, source in enumerate(sources):
                if not isinstance(source, str):
                    raise UserError(f"source: row {number} is {source}, no text")
            search, beam = self.search, int(params.get("beam") or 0)
            if not 0 <= beam <= WIDEST:
                raise UserError(f"beam={beam}: set 1 to {WIDEST}, or 0 for the model's own")
            if beam:
                search = build(SearchSettings, vars(search) | {"beam": beam}, "search")
            model, vocabularies = self.trained.model, self.trained.vocabularies
            if params.get("alignments"):
                check_weights([model], "alignments=true", "leave it out")
            texts = list(map(clean, sources))
            found = [best for best, *_ in translate_n_best([model], vocabularies, texts, search, 1)]
            table = pd.DataFrame({"translation": [one.text for one in found], "score": [one.score for one in found]})
            if params.get("alignments"):
                read = read_weights([model], vocabularies.source.encode(texts), [one.tokens for one in found])
                links = []
                for weights, text, one in zip(read, texts, found, strict=True):
                    words = source_words(vocabularies, text), target_words(vocabularies, one.tokens)
                    links.append(to_pharaoh(word_weights(weights, *words)))
                table["alignment"] = links
            return table


def pack(run: RunFolder, folder: Path) -> bool:
    """Pack the best model of a run, whole or not at all, and say whether that had not been done before.

    Args:
        run: its folder.
        folder: to make.

    Raises:
        UserError: the folder is there already, and not this model's, or cannot be written, or the checkpoint is none.
    """
    content = read(run.best)
    load_trained(run.best)  # Says in its line what is wrong, before anything is written.
    rows = read_translations(run.translations) if run.translations.exists() else []
    example = rows[0].source if rows else "a sentence"  # For those who look what goes in.
    kept = {name: content[name] for name in ("hourglass", "state_dict", "global_step")}
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with quiet(), tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
            small = Path(scratch) / "model.ckpt"
            torch.save(kept, small)  # Without what only training wants.
            if folder.exists():
                before = folder / "artifacts" / small.name
                if before.is_file() and before.read_bytes() == small.read_bytes():
                    return False
                raise UserError(f"{folder}: there already, and of another model: remove it, or name another")
            with warnings.catch_warnings(record=True):  # As above.
                mlflow.pyfunc.save_model(
                    f"{scratch}/packed",
                    python_model=str(PACKAGE / "tracking" / "served_model.py"),
                    artifacts={CHECKPOINT: str(small)},
                    code_paths=[str(PACKAGE)],
                    signature=SIGNATURE,
                    input_example=pd.DataFrame({"source": [example]}),
                    pip_requirements=[f"{name}=={_version(name)}" for name in NEEDS],
                )
            os.replace(f"{scratch}/packed", folder)
    return True


def pack_anew(run: RunFolder) -> None:
    """Pack the best model of a run into its folder, in place of what an earlier start packed."""
    shutil.rmtree(run.model, ignore_errors=True)
    pack(run, run.model)


def _version(name: str) -> str:
    """Return the version of a library, without the name of its build (2.13.0+cpu), which no index has."""
    return importlib.metadata.version(name).partition("+")[0]
