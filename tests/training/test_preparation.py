"""What preparation refuses: a folder that is not read, and a vocabulary too small for a calibrated channel."""

from pathlib import Path

import pytest
from helpers import compose_config

from hourglass.errors import UserError
from hourglass.training.preparation import folder_override, prepare, warn_of_unknown_pieces
from hourglass.training.settings import check_settings


def test_a_calibrated_channel_needs_all_its_symbols_in_train(tmp_path: Path) -> None:
    """The vocabulary shrinks to the symbols of train, and an unknown symbol would carry no bits."""
    config = compose_config(
        *("data=copy", "data.calibrated=true", "data.train_pairs=8", "data.shortest=9", "data.longest=9"),
        *("data.dev_pairs=5", "data.test_pairs=5", "attention=none", "encoder.summary_size=8"),
        *("optimizer.label_smoothing=0", "trainer.target_tokens=10", "trainer.batch_tokens=20"),
        *("trainer.validations=1", f"cache={tmp_path}"),
    )
    with pytest.raises(UserError, match=r"^data.calibrated=true: train has only \d+ of the 64 symbols"):
        prepare(config, check_settings(config))


@pytest.mark.parametrize(("pieces", "unknown"), [(68, False), (44, True)])
def test_pieces_that_the_vocabulary_lacks_are_named(
    pieces: int, unknown: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of 64 symbols, 40 have a piece beside the four fixed ones; unknown neighbours are one piece."""
    config = compose_config(
        *("data=copy", f"data.vocabulary_size={pieces}", "data.train_pairs=2000", "data.dev_pairs=5"),
        *("data.test_pairs=5", f"cache={tmp_path}"),
    )
    prepared = prepare(config, check_settings(config))
    assert "unknown" not in caplog.text  # What only reads the data of a run says nothing.
    warn_of_unknown_pieces(config, prepared)
    lines = [record.getMessage() for record in caplog.records if "unknown" in record.getMessage()]
    assert len(lines) == unknown
    if unknown:
        unseen = 24 / 64
        share = float(lines[0].split()[1])
        # Of n symbols, n (1 - unseen) known pieces, and an unknown one for each that follows a known symbol.
        assert share == pytest.approx(100 * unseen / (1 + unseen), abs=2)
        assert lines[0].endswith("raise data.vocabulary_size")


def test_a_corpus_without_raw_files_takes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^data\.folder=.*: data=kjv_web reads no folder of raw files: leave it out$"):
        folder_override(str(tmp_path), ["data=kjv_web"])
