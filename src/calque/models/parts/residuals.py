"""Residual connections: where the norm goes, and whether there is a way around a sub-layer."""

from collections.abc import Callable

from torch import Tensor, nn

from calque.models.transformer import Part, Residual, TransformerConfig


class PreNorm(Residual):
    """x + Dropout(Sublayer(Norm(x))), with a norm after the last layer: arXiv:2002.04745."""

    @staticmethod
    def final_norm(config: TransformerConfig, norm: Part, /) -> nn.Module:
        return norm(config)

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        return x + self.dropout(sublayer(self.norm(x)))


class NoResidual(Residual):
    """Norm(Dropout(Sublayer(x))): each layer sees only what the one before it made."""

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        return self.norm(self.dropout(sublayer(x)))


RESIDUALS: dict[str, type[Residual]] = {"post": Residual, "pre": PreNorm, "none": NoResidual}
