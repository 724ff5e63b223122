"""What to write in place of a setting that does not exist."""

import difflib
import sys
from pathlib import Path

from hourglass.config.usage import choices_with, default_groups, known_keys
from hourglass.system.project import CONF

# Names that other tools have for a setting of src/train.py.
OTHER_NAMES = {
    **dict.fromkeys(
        ("epochs", "max_epochs", "num_epochs", "steps", "max_steps", "train_steps"), "trainer.target_tokens"
    ),
    **dict.fromkeys(("batch_size", "max_tokens"), "trainer.batch_tokens"),
    **dict.fromkeys(("lr", "base_lr"), "optimizer.learning_rate"),
    **dict.fromkeys(("warmup_steps", "warmup_ratio"), "optimizer.warmup"),
    **dict.fromkeys(("gradient_clip_val", "max_grad_norm", "grad_clip"), "optimizer.clip_norm"),
    **dict.fromkeys(("gpus", "num_gpus", "num_processes", "world_size"), "trainer.devices"),
    **dict.fromkeys(("num_nodes", "nnodes"), "trainer.nodes"),
    **dict.fromkeys(("val_check_interval", "eval_steps", "check_val_every_n_epoch"), "trainer.validations"),
    **dict.fromkeys(("early_stopping", "early_stopping_patience"), "trainer.patience"),
    **dict.fromkeys(("save_steps", "save_freq"), "trainer.checkpoint_every"),
    **dict.fromkeys(("accumulate_grad_batches", "gradient_accumulation_steps"), "trainer.accumulate"),
    **dict.fromkeys(("beam_size", "num_beams", "beam_width"), "search.beam"),
    **dict.fromkeys(("hidden_dim", "rnn_size", "hidden"), "encoder.hidden_size"),
    **dict.fromkeys(("emb_size", "embedding_dim"), "encoder.embedding_size"),
    **dict.fromkeys(("num_layers", "n_layers"), "encoder.layers"),
    **dict.fromkeys(("vocab_size", "n_words"), "data.vocabulary_size"),
    **dict.fromkeys(("max_len", "max_length"), "data.longest"),
    **dict.fromkeys(("output_dir", "out_dir", "save_dir", "checkpoint_dir", "ckpt_path"), "run_dir"),
    **dict.fromkeys(("resume_from_checkpoint", "from_checkpoint"), "resume"),
}


def unknown_key(name: str, part: str) -> str:
    """Return the message for a setting that does not exist, with what to write instead where that is known.

    Args:
        name: the setting as it was written, such as `trainer.max_epochs`.
        part: the component of it that does not exist, such as `max_epochs`.
    """
    groups, group = _groups(), name.partition(".")[0]
    message = f"{name}: no such setting"
    if part in groups:  # It exists, but no file of it is chosen.
        return f"{message}: choose a file of {part}, too: {_with_group(name)}=VALUE"
    if group in groups and (having := choices_with(name)):
        return f"{name}: not a setting of the chosen {group}: only of {group}={', '.join(having)}"
    if similar := similar_setting(name):
        return f"{message}: write {similar}"
    parent = name.rpartition(".")[0]
    listing = f"--help {parent}" if parent in groups and _config() == "config" else "--help"
    return f"{message}; {listing} explains those that there are"


def similar_setting(name: str) -> str | None:
    """Return what to write in place of a setting that does not exist, with its comment; None if nothing is like it."""
    if "." not in name and (alike := difflib.get_close_matches(name, _groups(), 1, cutoff=0.7)):
        return f"{alike[0]}=CHOICE"
    comments = {key.name: key.comment for key in known_keys(_config())}
    parent, _, last = name.rpartition(".")
    lasts = {key: key.rpartition(".")[2] for key in comments}
    alike = difflib.get_close_matches(last, lasts.values(), 3, cutoff=0.7)
    close = [key for key in comments if lasts[key] == last]
    other = "out" if last.startswith("out") else OTHER_NAMES.get(last)
    close = close or [key for key in dict.fromkeys((other, OTHER_NAMES.get(last))) if key in comments]
    close = close or [key for key in comments if lasts[key] in alike and key.rpartition(".")[0] == parent]
    close = close or [key for key in comments if lasts[key] in alike]
    return " or ".join(f"{_with_group(key)}=VALUE ({comments[key]})" for key in close[:2]) or None


def _config() -> str:
    """Return the name of the file in conf/ that this command reads."""
    script = Path(sys.argv[0]).stem
    return script if (CONF / f"{script}.yaml").exists() else "config"


def _groups() -> dict[str, str]:
    """Return the groups of the command, each with its default choice."""
    return {group.name: group.default for group in default_groups(CONF / f"{_config()}.yaml")}


def _with_group(key: str) -> str:
    """Return a key as the command line sets it, after a choice of its group if none is chosen by default."""
    group = key.partition(".")[0]
    return f"{group}={choices_with(key)[0]} {key}" if _groups().get(group) == "null" and choices_with(key) else key
