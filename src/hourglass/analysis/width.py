"""Variants that are alike but for D, the width of the summary: does a gap shrink as the neck grows wider?

A gap that a wider neck closes is one of what the neck can hold. One that neither a wider neck nor more training closes
lies with the encoder or the decoder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hourglass.analysis.information import Information
from hourglass.analysis.ladder import GapCourse
from hourglass.config.differences import differences
from hourglass.config.options import Config
from hourglass.metrics.significance import Difference

WIDTH = "encoder.summary_size"
# The settings of a run that make its model.
_MODEL = ("encoder", "decoder", "attention", "frozen_encoder")
# What a gap is due to; see `judge_cause`.
Cause = Literal["capacity", "learning", "encoder or decoder", "cannot be told", "no gap shown"]


@dataclass(frozen=True)
class WidthFamily:
    """Variants that differ in the width of their summary alone.

    Attributes:
        reference: the one whose width is that of the ablation's baseline; without such a one, the widest.
        variants: name by width D, in ascending order of width; two or more.
    """

    reference: str
    variants: dict[int, str]

    @property
    def steps(self) -> list[tuple[str, str]]:
        """Each variant and the next narrower one, from the narrowest up."""
        names = list(self.variants.values())
        return list(zip(names[1:], names, strict=False))

    @property
    def others(self) -> list[str]:
        """All but the reference."""
        return [name for name in self.variants.values() if name != self.reference]


def find_width_families(configs: Mapping[str, Config], baseline: str) -> list[WidthFamily]:
    """Return the families of two widths or more, in the order of the variants.

    Args:
        configs: settings of each variant, by its name.
        baseline: name of the ablation's baseline.
    """
    groups: list[list[str]] = []
    for name, config in configs.items():
        for group in groups:
            if _differ_in_width(configs[group[0]], config):
                group.append(name)
                break
        else:
            groups.append([name])
    usual = configs[baseline]["encoder"]["summary_size"]
    families = []
    for group in groups:
        widths: dict[int, str] = dict(sorted((configs[name]["encoder"]["summary_size"], name) for name in group))
        if len(widths) > 1:
            families.append(WidthFamily(widths[usual if usual in widths else max(widths)], widths))
    return families


def measured_families(information: Information) -> list[WidthFamily]:
    """Return the families among the variants whose bits were measured; none where their settings are not recorded."""
    configs = {name: own.provenance.config for name, own in information.variants.items() if own.provenance is not None}
    return find_width_families(configs, information.baseline) if information.baseline in configs else []


def _differ_in_width(first: Config, second: Config) -> bool:
    own, other = ({key: config.get(key) for key in _MODEL} for config in (first, second))
    return differences(own, other) == [WIDTH]


def judge_cause(course: GapCourse, widened: Sequence[Difference]) -> Cause:
    """Say what a gap to a variant with a neck is due to, by the rule of conf/ablation.

    - no gap shown: its interval holds 0;
    - learning: it still falls as the budget grows;
    - capacity: it has flattened, and a wider neck receives more: some step to a wider one has an interval above 0;
    - encoder or decoder: it has flattened, and no step to a wider neck does; the frozen encoder tells the two apart;
    - cannot be told: otherwise.

    Args:
        course: of the gap as the budget grows.
        widened: bits that each width of the variant with the neck receives more than the next narrower one; empty where
            one width was trained.
    """
    if course.course == "not shown":
        return "no gap shown"
    if course.course == "falls":
        return "learning"
    known = [step for step in widened if step.widest is not None]
    if course.course != "flattened" or not known:
        return "cannot be told"
    return "capacity" if any(step.widest.low > 0 for step in known if step.widest) else "encoder or decoder"
