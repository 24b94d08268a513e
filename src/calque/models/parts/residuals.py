"""Residual connections: where the norm goes."""

from collections.abc import Callable

from torch import Tensor, nn

from calque.models.transformer import Residual, TransformerConfig


class PreNorm(Residual):
    """x + Dropout(Sublayer(LayerNorm(x))), with a norm after the last layer: arXiv:2002.04745."""

    @staticmethod
    def final_norm(config: TransformerConfig, /) -> nn.Module:
        return nn.LayerNorm(config.d_model)

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        return x + self.dropout(sublayer(self.norm(x)))


RESIDUALS: dict[str, type[Residual]] = {"post": Residual, "pre": PreNorm}
