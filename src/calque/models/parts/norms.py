"""Norms: what keeps the numbers of a layer in bounds, in the place of the paper's layer norm."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from calque.models.transformer import LayerNorm, Part, TransformerConfig


class RMSNorm(nn.RMSNorm):
    """To root mean square 1, the mean left as it is: arXiv:1910.07467, eq. 4."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config.d_model, eps=1e-5)


class NoNorm(nn.Identity):
    """Nothing is normalised."""

    def __init__(self, _: TransformerConfig, /) -> None:
        super().__init__()


class PaddedBatchNorm(nn.Module):
    """Each feature over all positions of the batch, padding too: arXiv:1502.03167, alg. 1 and 2.

    In training by the batch's own mean and variance, else by their running averages.
    """

    running_mean: Tensor  # [d_model]
    running_var: Tensor  # [d_model]

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.d_model))
        self.bias = nn.Parameter(torch.zeros(config.d_model))
        self.register_buffer("running_mean", torch.zeros(config.d_model))
        self.register_buffer("running_var", torch.ones(config.d_model))

    def forward(
        self, x: Float[Tensor, "*positions d_model"]
    ) -> Float[Tensor, "*positions d_model"]:
        averages, learned = (self.running_mean, self.running_var), (self.weight, self.bias)
        return batch_norm(x.flatten(0, -2), *averages, *learned, self.training).view_as(x)


class BatchNorm(PaddedBatchNorm):
    """Batch norm over the tokens alone; padding becomes zero.

    No other norm asks which positions are padding, so it does not come with `x`: `listen_to` has
    the embedding tell.
    """

    present: Tensor | None = None  # bool [batch, length]: what was embedded last is a token

    def forward(self, x: Float[Tensor, "batch length d_model"]) -> Tensor:
        """See `PaddedBatchNorm`."""
        if not self.training or self.present is None:
            return super().forward(x)
        tokens = x[self.present]
        normalised = super().forward(tokens)
        return normalised.new_zeros(x.shape).masked_scatter(self.present[..., None], normalised)


def listen_to(embedding: nn.Module, model: nn.Module, pad_id: int) -> None:
    """Have every BatchNorm of `model` know which of the ids that are embedded are tokens."""
    norms = [module for module in model.modules() if isinstance(module, BatchNorm)]

    def tell(_table: nn.Module, ids: tuple[Tensor]) -> None:
        for norm in norms:
            norm.present = ids[0] != pad_id

    if norms:
        for table in embedding.modules():
            if isinstance(table, nn.Embedding):
                table.register_forward_pre_hook(tell)


NORMS: dict[str, Part] = {
    "layer": LayerNorm,
    "rms": RMSNorm,
    "batch": BatchNorm,
    "padded_batch": PaddedBatchNorm,
    "none": NoNorm,
}
