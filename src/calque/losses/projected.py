"""The fast path of the loss over the vocabulary: projection and loss together, block by block.

Logits for all tokens at once are the largest tensors of training; they are written, read and
written again by each step of the plain path. Here a block of tokens is projected, its loss and
gradient are taken while it is in the processor's cache, and the logits are forgotten. Where there
is a kernel for it, no logit is written at all.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from calque.kernels.vocabulary import ProjectedSoftmax
from calque.losses.cross_entropy import Loss

BLOCK = 512  # tokens; with 8,000 words a block of bf16 is 8 MB
ROWS = 128  # tokens, of which a block is a multiple: kernels are compiled for each number of rows
PIECE = 64  # tokens, where several passes over their logits follow each other


def projected_loss(
    features: Float[Tensor, "tokens d_model"],
    weight: Float[Tensor, "vocab d_model"],
    bias: Float[Tensor, " vocab"] | None,
    labels: Int[Tensor, " tokens"],
    smoothing: float,
    r_drop: float = 0.0,
) -> Loss:
    """smoothed_cross_entropy of the logits `features @ weight.T + bias`.

    With `r_drop` the second half of the tokens is the first half through another dropout, and
    r_drop x symmetric_divergence of the two halves is added.
    """
    return Loss(*_ProjectedLoss.apply(features, weight, bias, labels, smoothing, r_drop))


class _ProjectedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        smoothing: float,
        r_drop: float,
    ) -> tuple[Tensor, Tensor]:
        device = features.device.type
        low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        with torch.autocast(device, enabled=False):  # from here on, low precision where we say so
            sums = _Sums(features.float(), weight, bias, labels, low or weight.dtype, r_drop > 0)
            sums.begin(smoothing)
            for rows in _blocks(len(labels), pairs=r_drop > 0):
                if not sums.add_by_kernel(rows):
                    sums.add(rows, r_drop)
            total = sums.smoothed(smoothing) + r_drop * sums.divergence
        gradients = sums.features_grad.to(features.dtype), sums.weight_grad, sums.bias_grad
        ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(sums.cross_entropy)
        return total, sums.cross_entropy

    @staticmethod
    def backward(ctx: Any, total: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        # In their own place: PyTorch refuses a second time.
        gradients = (None if grad is None else grad.mul_(total) for grad in ctx.saved_tensors)
        return *gradients, None, None, None


class _Sums:
    """Loss and gradients as they grow, block by block."""

    def __init__(
        self,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        products: torch.dtype,
        r_drop: bool,
    ) -> None:
        self.features, self.weight, self.bias, self.labels = features, weight, bias, labels
        self.features_low, self.weight_low = features.to(products), weight.to(products)
        self.features_grad, self.weight_grad = torch.empty_like(features), torch.empty_like(weight)
        self.bias_grad = None if bias is None else torch.empty_like(bias)
        self.normalisers = features.new_empty(len(labels))
        # Written again by every block: fresh memory costs more than what is done with it.
        self.logits = self.weight_low.new_empty(BLOCK, len(weight))
        self.probs = torch.empty_like(self.logits) if r_drop else self.logits
        self.softmax = None
        if not r_drop and ProjectedSoftmax.can_take(weight, products):
            gradients = self.weight_grad, self.bias_grad
            self.softmax = ProjectedSoftmax(self.weight_low, bias, *gradients, self.logits)
        self.divergence, self.cross_entropy = features.new_zeros(2).unbind()

    def begin(self, smoothing: float) -> None:
        """What the labels add to the gradients."""
        # A label takes from its own word, and smoothing the same from every word: no pass over
        # the logits is needed for either.
        even, words = smoothing / len(self.weight), self.labels
        self.features_grad[:] = (smoothing - 1) * self.weight[words] - even * self.weight.sum(dim=0)
        self.weight_grad[:] = -even * self.features.sum(dim=0)
        self.weight_grad.index_add_(0, words, self.features, alpha=smoothing - 1)
        if self.bias_grad is not None:
            self.bias_grad[:] = (smoothing - 1) * words.bincount(minlength=len(self.weight))
            self.bias_grad -= even * len(words)

    def smoothed(self, smoothing: float) -> Tensor:
        """The loss, once all blocks are in."""
        even = self.normalisers.sum() - self.features.sum(dim=0) @ self.weight.mean(dim=0)
        if self.bias is not None:
            even = even - len(self.labels) * self.bias.mean()
        return (1 - smoothing) * self.cross_entropy + smoothing * even

    def add_by_kernel(self, rows: Tensor | slice) -> bool:
        """As `add`, in fewer passes over memory; whether that could be done."""
        if self.softmax is None:
            return False
        labels, features = self.labels[rows], self.features_low[rows]
        right = (features.float() * self.weight_low[labels].float()).sum(dim=1)
        if self.bias is not None:
            right += self.bias[labels]
        found = self.softmax.add(features, right)
        if found is None:
            return False
        self.normalisers[rows], features_grad = found
        self.features_grad[rows] += features_grad
        self.cross_entropy += (self.normalisers[rows] - right).sum()
        return True

    def add(self, rows: Tensor | slice, r_drop: float) -> None:
        """A block's softmax, in both gradients."""
        labels = self.labels[rows, None]
        block, tokens = _rounded(self.features_low[rows]), len(labels)
        logits = torch.mm(block, self.weight_low.T, out=self.logits[: len(block)])
        if self.bias is not None:
            logits += self.bias
        right = logits[:tokens].gather(1, labels)
        probs = torch.softmax(logits, dim=-1, out=self.probs[: len(block)])
        probs[tokens:] = 0  # there is no such token
        self.normalisers[rows] = normaliser = self._normaliser(block, right, probs, labels)
        if r_drop:
            divergence, divergence_grad = _divergence(logits[:tokens], probs[:tokens])
            self.divergence += divergence
            probs[:tokens].add_(divergence_grad, alpha=r_drop)
        self.cross_entropy += (normaliser - right.squeeze(1).float()).sum()
        self.features_grad[rows] += (probs @ self.weight_low)[:tokens]
        self.weight_grad += probs.T @ block
        if self.bias_grad is not None:
            self.bias_grad += probs.sum(dim=0, dtype=torch.float32)

    def _normaliser(self, block: Tensor, right: Tensor, probs: Tensor, labels: Tensor) -> Tensor:
        """log Σ exp(logit), without a further pass over the vocabulary: logit - log probability."""
        probs_right = probs[: len(labels)].gather(1, labels).float()
        normaliser = (right.float() - probs_right.log()).squeeze(1)
        vanished = (probs_right < torch.finfo(torch.float32).tiny).squeeze(1).nonzero().squeeze(1)
        if len(vanished):
            logits = (block[vanished] @ self.weight_low.T).float()
            if self.bias is not None:
                logits += self.bias
            normaliser[vanished] = logits.logsumexp(dim=-1)
        return normaliser


def _divergence(logits: Tensor, probs: Tensor) -> tuple[Tensor, Tensor]:
    """The divergence of a block's two halves, and its gradient on the logits."""
    total = logits.new_zeros((), dtype=torch.float32)
    grad = torch.empty_like(probs)
    halves = (x.unflatten(0, (2, -1)).split(PIECE, dim=1) for x in (logits, probs, grad))
    for (first, second), (p, q), (first_grad, second_grad) in zip(*halves, strict=True):
        # Of logits, not of log-probabilities: what they differ by is the same for every word,
        # and cancels in the sum and in both gradients.
        apart, between = first - second, p - q
        total += (between * apart).sum(dtype=torch.float32)
        for sign, probs_of, grad_of in ((0.5, p, first_grad), (-0.5, q, second_grad)):
            mean = (probs_of * apart).sum(dim=-1, keepdim=True)
            torch.addcmul(between, probs_of, apart - mean, out=grad_of).mul_(sign)
    return 0.5 * total, grad


def _rounded(block: Tensor) -> Tensor:
    """With zeros behind, to a multiple of ROWS."""
    spare = -len(block) % ROWS
    return torch.cat([block, block.new_zeros(spare, block.size(1))]) if spare else block


def _blocks(tokens: int, pairs: bool) -> list[Tensor | slice]:
    if not pairs:
        return [slice(start, start + BLOCK) for start in range(0, tokens, BLOCK)]
    blocks = torch.arange(tokens // 2).split(BLOCK // 2)
    return [torch.cat([block, block + tokens // 2]) for block in blocks]
