"""Settings of runs of earlier versions, in today's form."""

from collections.abc import Mapping
from typing import Any

# Options that earlier versions lacked, with the values that stand for what they did: of a decoder, and of those
# attentions that have them.
DECODER_BEFORE = {"copy": False, "gate_context": False, "doubly_stochastic": 0.0}
ATTENTION_BEFORE = {"coverage": False, "coverage_loss": 0.0}
COVERING = ("bahdanau", "bahdanau_normed", "luong_concat")


def in_present_form(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with what earlier versions wrote otherwise as it is written today.

    `metrics` was a list of scores beside BLEU and chrF, each a name or a mapping of name and options; it may be missing
    altogether. `encoder.patches`, `DECODER_BEFORE` and `ATTENTION_BEFORE` were as they are by default.
    """
    encoder = config.get("encoder")
    if isinstance(encoder, Mapping) and encoder.get("name") != "blind":
        config = {**config, "encoder": {**encoder, "patches": encoder.get("patches", "projected")}}
    if isinstance(config.get("decoder"), Mapping):
        config = {**config, "decoder": DECODER_BEFORE | dict(config["decoder"])}
    attention = config.get("attention")
    if isinstance(attention, Mapping) and attention.get("name") in COVERING:
        config = {**config, "attention": ATTENTION_BEFORE | dict(attention)}
    older = config.get("metrics", [])
    if not isinstance(older, list) or "trainer" not in config:
        return dict(config)
    entries = [dict(entry) if isinstance(entry, Mapping) else {"name": entry} for entry in older]
    names = [str(entry.pop("name", None)) for entry in entries]
    options = [{"name": name, **entry} for name, entry in zip(names, entries, strict=True) if entry]
    return {**config, "metrics": {"main": "bleu", "others": ["chrf", *names], "options": options}}
