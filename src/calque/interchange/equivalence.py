"""Whether an exported model is the same: its log-probabilities on a held-out batch are ours."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from calque.checkpoint import RunFolder
from calque.config import CalqueError
from calque.models.transformer import Transformer
from calque.text.batching import Batch
from calque.text.corpus import read_pairs
from calque.text.tokenizers.interface import SpecialIds

TOLERANCE = 1e-4
"""Largest difference of two log-probabilities in float32 that counts as none, in nats."""
SIZE = 32
"""Pairs of a held-out batch."""
LONGEST = 64
"""Tokens of a side of a held-out pair; longer ones are not chosen."""


def held_out(run: RunFolder) -> Batch:
    """The first validation pairs of a run's recipe; where there are none to read, random tokens."""
    special, tokenizers = run.tokenizers.special, run.tokenizers
    texts = validation_pairs(run, 4 * SIZE)
    sources = tokenizers.source.encode([source for source, _ in texts])
    targets = tokenizers.target.encode([target for _, target in texts])
    pairs = [
        pair for pair in zip(sources, targets, strict=True) if all(len(x) <= LONGEST for x in pair)
    ]
    if not pairs:
        generator = np.random.default_rng(0)
        sides = tokenizers.source.vocab_size, tokenizers.target.vocab_size
        pairs = [
            tuple(_random_tokens(generator, size, special) for size in sides) for _ in range(SIZE)
        ]
    sources, targets = zip(*pairs[:SIZE], strict=True)
    source = _padded([[*ids, special.eos] for ids in sources], special)
    target = _padded([[special.bos, *ids, special.eos] for ids in targets], special)
    return Batch(source, target, np.arange(len(source)), special.pad)


def validation_pairs(run: RunFolder, limit: int | None = None) -> list[tuple[str, str]]:
    """The first validation pairs of a run's recipe; none when its files cannot be read here."""
    try:
        pairs = (pair for c in run.recipe.data.valid for pair in read_pairs(c, Counter()))
        whole = ((p.source, p.target) for p in pairs if p.source.strip() and p.target.strip())
        return list(islice(whole, limit))
    except CalqueError:
        return []


@torch.inference_mode()
def our_log_probs(model: Transformer, batch: Batch) -> Float[Tensor, " tokens"]:
    """What the model, in evaluation mode, gives to each target token; see `token_log_probs`."""
    return token_log_probs(model(batch.source, batch.target[:, :-1]), batch)


def token_log_probs(
    logits: Float[Tensor, "batch predicted vocab"], batch: Batch
) -> Float[Tensor, " tokens"]:
    """Log-probability of each target token, EOS included, in nats: row after row, no padding.

    `logits` stand for what follows each of `batch.target[:, :-1]`.
    """
    log_probs = logits.float().log_softmax(dim=-1)
    predicted = batch.target[:, 1:]
    of_tokens = log_probs.gather(-1, predicted[..., None]).squeeze(-1)
    return of_tokens[predicted != batch.pad_id]


def require_equal(
    ours: Float[Tensor, " tokens"], theirs: Float[Tensor, " tokens"], what: str
) -> float:
    """The largest difference in nats. Raises CalqueError when it is above TOLERANCE.

    `what` names the target in the message, such as "CTranslate2".
    """
    difference = float((ours - theirs).abs().max())
    if not difference <= TOLERANCE:  # also when it is no number
        raise CalqueError(
            f"{what}: the exported model is not the same: log-probabilities of held-out tokens "
            f"differ by up to {difference:.2g}, more than {TOLERANCE:g}; nothing was written"
        )
    return difference


def _padded(rows: Sequence[Sequence[int]], special: SpecialIds) -> Tensor:
    tensors = [torch.tensor(row) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=special.pad)


def _random_tokens(
    generator: np.random.Generator, vocab_size: int, special: SpecialIds
) -> list[int]:
    """Of random length; none of those with a meaning of their own."""
    ids = generator.integers(vocab_size, size=generator.integers(1, LONGEST))
    return [int(i) for i in ids if i not in (special.pad, special.bos, special.eos)]
