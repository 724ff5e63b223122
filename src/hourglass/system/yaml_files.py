"""YAML in one dialect: that of OmegaConf, which reads the config groups.

PyYAML reads YAML 1.1, in which 5e-05 is a string, as it has no point. For Python, DVC and OmegaConf it is a number. A
date is a string, as settings have none.
"""

import re
from collections.abc import Mapping
from typing import Any

import yaml

_FLOAT = "tag:yaml.org,2002:float"
_WITH_EXPONENT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)[eE][-+]?[0-9]+$")
_FIRST_CHARACTERS = list("-+.0123456789")


class _Loader(yaml.SafeLoader):
    """Reads plain values only."""


class _Dumper(yaml.SafeDumper):
    """Writes plain values only; text that the loader would read as a number is quoted."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _each in (_Loader, _Dumper):
    _each.add_implicit_resolver(_FLOAT, _WITH_EXPONENT, _FIRST_CHARACTERS)


def read_yaml(text: str) -> Any:
    """Return the plain values of a YAML document.

    Raises:
        yaml.YAMLError: it is none, or asks for objects.
    """
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def to_yaml(content: Mapping[str, Any]) -> str:
    """Return plain values as a YAML document that `read_yaml`, OmegaConf and YAML 1.1 read as these values."""
    text = _dump(content, allow_unicode=True)
    # PyYAML writes U+0085 as it is, and reads it as the end of a line.
    return text if "\x85" not in text else _dump(content, allow_unicode=False)


def _dump(content: Mapping[str, Any], *, allow_unicode: bool) -> str:
    text: str = yaml.dump(dict(content), Dumper=_Dumper, sort_keys=False, allow_unicode=allow_unicode)
    return text
