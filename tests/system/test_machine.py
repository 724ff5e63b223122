"""The description of the machine: which instructions for bfloat16 a CPU has."""

from pathlib import Path

import pytest

from hourglass.system.machine import bfloat16_instructions, describe_processor

INTEL = """processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8480C
flags\t\t: fpu avx2 avx512f avx512_bf16 amx_bf16 avx512_bf16x
vmx flags\t: vnmi

processor\t: 1
model name\t: another
flags\t\t: fpu
"""


@pytest.mark.parametrize(
    ("text", "instructions", "name"),
    [
        (INTEL, ["avx512_bf16", "amx_bf16"], "Intel(R) Xeon(R) Platinum 8480C ("),
        (INTEL.replace(" amx_bf16", ""), ["avx512_bf16"], "Intel(R) Xeon"),
        (INTEL.replace(" amx_bf16", "").replace(" avx512_bf16 ", " "), [], "Intel(R) Xeon"),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", [], ""),  # 64-bit Arm
        (None, [], ""),  # Not Linux
    ],
)
def test_instructions_for_bfloat16_are_read_from_the_first_cpu(
    text: str | None, instructions: list[str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_text(_: Path, **__: str) -> str:
        if text is None:
            raise FileNotFoundError
        return text

    monkeypatch.setattr(Path, "read_text", read_text)
    assert bfloat16_instructions() == instructions
    assert describe_processor().startswith(name)
