"""Pack a trained model in MLflow's format (pyfunc), independent of this repository: sentences in, translations out.

A packed model is a folder with the checkpoint (settings, vocabularies and weights, nothing pickled), the code of this
package, its requirements and a signature. MLflow loads it by running `served_model.py`; no pickle is involved.
"""

import importlib.metadata
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

from hourglass.config.options import build, check
from hourglass.config.plugins import Plugin, load_plugins, loaded_plugins
from hourglass.corpora.features import check_features
from hourglass.corpora.recipe import FeatureArray
from hourglass.decoding.precision import SearchPrecision, in_precision
from hourglass.decoding.search import SearchSettings
from hourglass.decoding.translate import clean, translate_n_best
from hourglass.decoding.word_alignment import (
    align_words,
    check_weights,
    read_weights,
    to_pharaoh,
)
from hourglass.errors import UserError
from hourglass.models.checkpoint import load_trained, read_checkpoint
from hourglass.models.seq2seq import Seq2Seq
from hourglass.runs.folder import RunFolder
from hourglass.runs.translations import read_translations
from hourglass.system.files import writing
from hourglass.system.project import PACKAGE
from hourglass.tracking.server import quiet

CHECKPOINT = "checkpoint"
# The widest beam that a request may ask for.
WIDEST = 50
# The libraries that translating imports.
REQUIREMENTS = ("babel", "mlflow", "numpy", "pandas", "pyarrow", "pydantic", "regex", "sentencepiece", "torch", "tqdm")
SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(DataType.string, "source"), ColSpec(DataType.string, "prefix", required=False)]),
    outputs=Schema(
        [
            ColSpec(DataType.string, "translation"),
            ColSpec(DataType.double, "score"),
            ColSpec(DataType.string, "alignment", required=False),
        ]
    ),
    params=ParamSchema(
        [
            ParamSpec("alignments", DataType.boolean, False),
            ParamSpec("beam", DataType.long, 0),
            ParamSpec("precision", DataType.string, ""),
            ParamSpec("prefix", DataType.string, ""),
        ]
    ),
)


with warnings.catch_warnings(record=True):  # MLflow recommends type hints to check inputs; the signature does that.

    class ServedModel(PythonModel):
        """A packed model: translates sentences. Loading it has MLflow refuse unknown parameters of requests to it.

        Parameters of a request: `alignments`, whether to return word alignments; `beam`, 0 for that of the run;
        `precision` of the search, 32, bf16 or int8, empty for that of the run; `prefix`, what every translation begins
        with. The column `prefix`, if there is one, has what that of each row begins with, which may be empty. Of a
        model that reads features, the column `source` has them as JSON: a list of regions, each a list of numbers.
        """

        def load_context(self, context: Any) -> None:
            """Load the checkpoint of the packed model."""
            refuse_unknown_parameters()
            # MLmodel names them, which MLflow runs the code of, too; a checkpoint alone makes nothing be imported.
            load_plugins((context.model_config or {}).get("plugins", []))
            self.trained = load_trained(Path(context.artifacts[CHECKPOINT]))
            self.search = build(SearchSettings, self.trained.config["search"], "search")
            self.models: dict[SearchPrecision, Seq2Seq] = {}
            self._in_precision(self.search.precision)  # Refused now, not at the first request.

        def _in_precision(self, precision: SearchPrecision) -> Seq2Seq:
            """Return the model in a precision, converted at the first request for it."""
            if precision not in self.models:
                self.models[precision] = in_precision(self.trained.model, precision)
            return self.models[precision]

        def predict(
            self,
            context: Any,
            model_input: Any,
            params: Mapping[str, Any] | None = None,
        ) -> pd.DataFrame:
            """Return a row for each source: translation, score, and alignment (i-j: source and target word, from 0).

            Args:
                context: unused.
                model_input: a table with the column `source`, and `prefix` if rows have prefixes of their own.
                params: see the class.

            Raises:
                MlflowException: the model has no attention weights for alignments, the beam is too wide, the machine
                    or the model cannot do the precision, a source or prefix is not text, there is a prefix of all rows
                    beside those of rows, or one is longer than a translation may be; a server answers with status 400
                    and this message.
            """
            try:
                words = dict(params or {})
                sources = _texts(model_input["source"])
                width = self.trained.config["data"].get("feature_size")
                if width is not None:
                    if words.get("alignments"):
                        raise UserError("alignments=true: features have no words to align: leave it out")
                    return self._translate(_read_features(sources, width), _prefixes(model_input, words), words)
                return self._translate(list(map(clean, sources)), _prefixes(model_input, words), words)
            except UserError as error:
                raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from None

        def _translate(
            self, sources: list[str] | list[FeatureArray], prefixes: list[str] | None, params: Mapping[str, Any]
        ) -> pd.DataFrame:
            search, beam = self.search, int(params.get("beam") or 0)
            if not 0 <= beam <= WIDEST:
                raise UserError(f"beam={beam}: set 1 to {WIDEST}, or 0 for the model's own")
            if beam:
                search = build(SearchSettings, vars(search) | {"beam": beam}, "search")
            if word := str(params.get("precision") or ""):
                precision = check(SearchPrecision, 32 if word == "32" else word, "precision")
                search = build(SearchSettings, vars(search) | {"precision": precision}, "search")
            model, vocabularies = self.trained.model, self.trained.vocabularies
            if params.get("alignments"):
                check_weights([model], "alignments=true", "leave it out")
            converted = self._in_precision(search.precision)
            lists = translate_n_best(
                [converted], vocabularies, sources, search, 1, prefixes=prefixes, place="row {}".format
            )
            translations = [best for best, *_ in lists]
            table = pd.DataFrame(
                {"translation": [t.text for t in translations], "score": [t.score for t in translations]}
            )
            if params.get("alignments"):
                tokens = [translation.tokens for translation in translations]
                texts = [source for source in sources if isinstance(source, str)]
                all_weights = read_weights([model], vocabularies.source.encode(texts), tokens)
                links = []
                for weights, text, best in zip(all_weights, texts, translations, strict=True):
                    links.append(to_pharaoh(align_words(vocabularies, self.trained.languages, text, best, weights)))
                table["alignment"] = links
            return table


def _texts(column: pd.Series) -> list[str]:
    """Return the values of a column of a request.

    Raises:
        UserError: one is not text.
    """
    for number, value in enumerate(column, 1):
        if not isinstance(value, str):
            raise UserError(f"{column.name}: row {number} is {value}, not text")
    return list(column)


def _read_features(column: list[str], width: int) -> list[FeatureArray]:
    """Return the features [S, F] that the texts of a request hold as JSON.

    Args:
        column: a text of each row.
        width: F.

    Raises:
        UserError: one holds something else.
    """
    rows = []
    for number, text in enumerate(column, 1):
        try:
            features = np.array(json.loads(text), dtype=np.float32)
        except (ValueError, TypeError, OverflowError, RecursionError):
            features = np.empty(0, np.float32)
        if features.ndim != 2:
            raise UserError(
                f"source: row {number} is no list of regions in JSON, each a list of {width} numbers: [[0.5, ...], ...]"
            )
        rows.append(check_features(features, width, f"source: row {number}"))
    return rows


def _prefixes(table: pd.DataFrame, params: Mapping[str, Any]) -> list[str] | None:
    """Return what the translation of each row of a request begins with; None: nothing.

    Raises:
        UserError: all rows have a prefix, and each has one of its own; or one is not text.
    """
    of_all = str(params.get("prefix") or "")
    if "prefix" not in table:
        return [of_all] * len(table) if of_all else None
    if of_all:
        raise UserError(
            f"prefix={of_all} and the column prefix: either all rows have one prefix, or each has its own: leave one "
            "out"
        )
    return _texts(table["prefix"].fillna(""))


def refuse_unknown_parameters() -> None:
    """Have MLflow refuse unknown parameters for packed models, which it would leave out with a line in its log.

    MLflow drops them before the model sees a request, and offers no option for it. Models of other signatures are
    not affected.
    """
    pyfunc: Any = mlflow.pyfunc
    enforce = pyfunc._enforce_params_schema
    if getattr(enforce, "refuses_unknown", False):
        return

    def refuse(params: Any, schema: Any) -> Any:
        if schema == SIGNATURE.params and isinstance(params, Mapping):
            known = [spec.name for spec in SIGNATURE.params.params]
            if unknown := sorted(map(str, params.keys() - known)):
                raise MlflowException(
                    f"unknown parameter {', '.join(unknown)}: a request may have {', '.join(known)}",
                    error_code=INVALID_PARAMETER_VALUE,
                )
        return enforce(params, schema)

    refuse.refuses_unknown = True  # type: ignore[attr-defined]
    pyfunc._enforce_params_schema = refuse


def pack(run: RunFolder, folder: Path) -> bool:
    """Pack the best model of a run, whole or not at all.

    Args:
        run: the run folder.
        folder: the folder to create.

    Returns:
        Whether the folder was created; False if it holds this model already.

    Raises:
        UserError: the folder holds something else or cannot be written, or the checkpoint is damaged.
    """
    content = read_checkpoint(run.best)
    load_trained(run.best)  # Check the checkpoint before anything is written.
    plugins = [plugin for plugin in loaded_plugins(content["hourglass"].get("plugins", {})) if plugin.is_of_model]
    rows = read_translations(run.translations) if run.translations.exists() else []
    example = rows[0].source if rows else "a sentence"
    if (width := content["hourglass"]["config"]["data"].get("feature_size")) is not None:
        example = json.dumps([[0.0] * width])
    kept = {name: content[name] for name in ("hourglass", "state_dict", "global_step")}
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        # MLflow takes paths for addresses, where % and # escape: only the finished model goes to `folder`.
        with (
            quiet(),
            tempfile.TemporaryDirectory(prefix="hourglass-") as scratch,
            tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as beside,
        ):
            small = Path(scratch) / "model.ckpt"
            torch.save(kept, small)  # Without the state of the training.
            if folder.exists():
                packed = folder / "artifacts" / small.name
                if packed.is_file() and packed.read_bytes() == small.read_bytes():
                    return False
                raise UserError(f"{folder}: exists already, with another model: remove it, or name another folder")
            sources = _copy_sources(plugins, Path(scratch) / "plugins")
            with warnings.catch_warnings(record=True):  # Of type hints, as above.
                mlflow.pyfunc.save_model(
                    f"{scratch}/packed",
                    python_model=str(PACKAGE / "tracking" / "served_model.py"),
                    artifacts={CHECKPOINT: str(small)},
                    code_paths=[str(PACKAGE), *map(str, sources)],
                    model_config={"plugins": [plugin.name for plugin in plugins]} if plugins else None,
                    signature=SIGNATURE,
                    input_example=pd.DataFrame({"source": [example]}),
                    pip_requirements=[f"{name}=={_version(name)}" for name in (*REQUIREMENTS, *_libraries(plugins))],
                )
            # MLflow records the path that the checkpoint was copied from, which is of this machine and soon gone.
            packed_model = Model.load(f"{scratch}/packed")
            packed_model.flavors["python_function"]["artifacts"][CHECKPOINT]["uri"] = f"artifacts/{small.name}"
            packed_model.save(f"{scratch}/packed/MLmodel")
            shutil.copytree(f"{scratch}/packed", f"{beside}/packed")
            os.replace(f"{beside}/packed", folder)
    return True


def _copy_sources(plugins: Sequence[Plugin], folder: Path) -> list[Path]:
    """Copy the sources of plugins to an empty folder, and return what lies there: modules and packages."""
    for plugin in plugins:
        for file in plugin.files:
            copy = folder / file.relative_to(plugin.folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, copy)
    return sorted(folder.iterdir()) if plugins else []


def _libraries(plugins: Sequence[Plugin]) -> list[str]:
    """Return the installed packages that the sources of plugins import, beside REQUIREMENTS."""
    packages = importlib.metadata.packages_distributions()
    imported = {name for plugin in plugins for library in plugin.libraries for name in packages.get(library, [])}
    return sorted(imported - set(REQUIREMENTS))


def pack_anew(run: RunFolder) -> None:
    """Pack the best model of a run into the run folder, in place of a model that an earlier start has packed."""
    shutil.rmtree(run.model, ignore_errors=True)
    pack(run, run.model)


def _version(name: str) -> str:
    """Return the version of a library without the local part (2.13.0+cpu), which package indexes do not have."""
    return importlib.metadata.version(name).partition("+")[0]
