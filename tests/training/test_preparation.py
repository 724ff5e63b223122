"""What a calibrated channel asks of its vocabulary."""

from pathlib import Path

import pytest
from helpers import compose_config

from hourglass.errors import UserError
from hourglass.training.preparation import prepare
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
