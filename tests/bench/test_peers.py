"""conf/peers.yaml is about measurements of conf/bench.yaml."""

import itertools

from helpers import bench_settings

from hourglass.bench.measurements import ON_GPU_TRAINING
from hourglass.bench.peers import read_targets


def test_peers_and_targets_are_about_what_is_measured() -> None:
    settings, targets = bench_settings(), read_targets()
    # The peers have no fixed context.
    variants = [name for name in settings.variants if name not in ("none", "fixed")]
    trained = [f"training, {name}, decoder {size}" for name in variants for size in settings.decoder_sizes]
    assert {peer.what for peer in targets.peers} == {*trained, "decoding, greedy", "decoding, beam 5"}
    on_gpu = itertools.product(variants, settings.decoder_sizes, settings.device_precisions)
    names = {f"{ON_GPU_TRAINING}{name}, decoder {size}, {precision}" for name, size, precision in on_gpu}
    assert {peer.what for peer in targets.gpu_peers} <= names
    assert set(targets.square_shares) == set(settings.variants)
    assert {*targets.no_slower, *targets.no_slower.values()} <= set(settings.variants)
    assert set(targets.precision_ratios) == set(settings.default_variants)
