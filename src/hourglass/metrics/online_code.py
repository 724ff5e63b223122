"""The online code of labels given vectors: what a probe finds in a vector, and how hard it is to find.

Voita and Titov 2020 ("Information-theoretic probing with minimum description length", section 2.2). A sender and a
receiver have the vectors; the sender transmits the labels. The first labels are sent in a uniform code. Then a probe
is trained on all labels sent so far and gives the code of the next block, and so on:

    L = t_1 K log2 C - sum_i log2 p_i(labels t_i + 1 to t_(i+1) | vectors),    p_i trained on the first t_i

A probe's accuracy alone is hardly lower for vectors of random weights than for trained ones, as a probe may learn the
task itself. A code length counts what there is to learn as well: a probe that needs many labels has a long code.

The code length is that of one probe, and learning costs a part of it, so the bits that a vector saves over labels in
another order (`shuffled`) are at most about the information in the vector: a lower bound but for chance, as both codes
learn how frequent the labels are and only one can learn from the vector.

Shapes: N items, D width of a vector, K labels of an item, C classes of each.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hourglass.metrics.likelihood import BITS_A_NAT

# Shares of the items after which a new probe is trained (Voita and Titov 2020, section 4.1).
SHARES = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)
# The probe: hidden units, items of a step, learning rate of Adam.
HIDDEN, BATCH, RATE = 128, 64, 0.001
# The share of the known items that decides when to stop; after so many epochs without a lower loss, and at the most.
HELD_OUT, PATIENCE, EPOCHS = 0.1, 3, 40


@dataclass(frozen=True)
class OnlineCode:
    """Length of the code of all labels.

    Attributes:
        bits: of the online code.
        uniform_bits: of a code that knows nothing but the classes.
        items: N.
    """

    bits: float
    uniform_bits: float
    items: int

    @property
    def compression(self) -> float:
        """How many times as long the uniform code is."""
        return self.uniform_bits / self.bits

    @property
    def bits_an_item(self) -> float:
        """The code of an item's labels."""
        return self.bits / self.items


def online_code(vectors: Tensor, labels: Tensor, classes: int, *, seed: int = 1) -> OnlineCode:
    """Return the length of the online code.

    The order of the items is drawn, and so are the first weights of the probes; a probe begins as the uniform code.

    Args:
        vectors: [N, D], float.
        labels: [N, K], from 0 to C - 1.
        classes: C, of every label.
        seed: of the draws; those of other code are left as they are.

    Raises:
        ValueError: there are no items, a label is no class, or there is a single class.
    """
    if not len(vectors) or classes < 2 or int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise ValueError("an online code needs items, two classes or more, and labels among these")
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(vectors)))
    vectors, labels = vectors[order].float(), labels[order]
    ends = sorted({max(1, round(share * len(vectors))) for share in SHARES})
    uniform = labels.shape[1] * np.log2(classes)
    bits = ends[0] * uniform
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for known, end in pairwise(ends):
            mean, spread = vectors[:known].mean(0), vectors[:known].std(0, correction=0) + 1e-6
            scaled = (vectors[:end] - mean) / spread
            # A component that hardly varies among few items may be far away in the next.
            scaled = scaled.clamp(-10, 10)
            probe = _train(scaled[:known], labels[:known], classes)
            with torch.no_grad():
                bits += float(_nats(probe, scaled[known:], labels[known:end], classes)) * BITS_A_NAT
    return OnlineCode(float(bits), float(len(vectors) * uniform), len(vectors))


def shuffled(labels: Tensor, *, seed: int = 1) -> Tensor:
    """Return labels [N, K] in another order, so that the vectors tell nothing about them."""
    # Another stream of draws than that of `online_code`, which would undo this order.
    return labels[torch.from_numpy(np.random.default_rng([seed, 1]).permutation(len(labels)))]


def _train(vectors: Tensor, labels: Tensor, classes: int) -> nn.Module:
    """Train a probe on items, the last of which decide when to stop."""
    held_out = round(HELD_OUT * len(vectors))
    last = nn.Linear(HIDDEN, labels.shape[1] * classes)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    probe = nn.Sequential(nn.Linear(vectors.shape[1], HIDDEN), nn.ReLU(), last)
    if not held_out:  # A handful of items: what they teach cannot be told from chance.
        return probe
    own, test = slice(0, len(vectors) - held_out), slice(len(vectors) - held_out, None)
    optimizer = torch.optim.Adam(probe.parameters(), lr=RATE, fused=True)
    lowest, best, since = float("inf"), {}, 0
    for _ in range(EPOCHS):
        with torch.no_grad():
            loss = float(_nats(probe, vectors[test], labels[test], classes))
        if loss < lowest:
            lowest, since = loss, 0
            best = {name: weight.clone() for name, weight in probe.state_dict().items()}
        elif (since := since + 1) >= PATIENCE:
            break
        for rows in torch.randperm(len(vectors) - held_out).split(BATCH):
            optimizer.zero_grad()
            loss_of_step = _nats(probe, vectors[own][rows], labels[own][rows], classes) / len(rows)
            loss_of_step.backward()
            optimizer.step()
    probe.load_state_dict(best)
    return probe


def _nats(probe: nn.Module, vectors: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return the negative log-likelihood of all labels, summed, []."""
    logits = probe(vectors).view(-1, classes)  # [N * K, C]
    return F.cross_entropy(logits, labels.reshape(-1), reduction="sum")
