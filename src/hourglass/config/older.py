"""Settings of runs of earlier versions, in today's form."""

from collections.abc import Mapping
from typing import Any


def in_present_form(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with what earlier versions wrote otherwise as it is written today.

    `metrics` was a list of scores beside BLEU and chrF, each a name or a mapping of name and options; it may be missing
    altogether. `encoder.patches` was as it is by default.
    """
    encoder = config.get("encoder")
    if isinstance(encoder, Mapping) and encoder.get("name") != "blind":
        config = {**config, "encoder": {**encoder, "patches": encoder.get("patches", "projected")}}
    older = config.get("metrics", [])
    if not isinstance(older, list) or "trainer" not in config:
        return dict(config)
    entries = [dict(entry) if isinstance(entry, Mapping) else {"name": entry} for entry in older]
    names = [str(entry.pop("name", None)) for entry in entries]
    options = [{"name": name, **entry} for name, entry in zip(names, entries, strict=True) if entry]
    return {**config, "metrics": {"main": "bleu", "others": ["chrf", *names], "options": options}}
