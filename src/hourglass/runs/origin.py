"""Where a run lies, and how it is made again: what a report says beside its numbers."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class RunOrigin:
    """Where a run lies, and how it is made again.

    Attributes:
        folder: relative to that of the report.
        settings: the file of its settings, relative to that of the report.
        command: that trains it.
        commit: of the code that trained it, with a note where files differed from it.
    """

    folder: str
    settings: str
    command: str
    commit: str


# By variant and seed.
RunOrigins = Mapping[tuple[str, int], RunOrigin]
