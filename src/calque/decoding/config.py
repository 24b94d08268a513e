"""The `decoding` section of a recipe."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field


@dataclass(frozen=True, kw_only=True)
class DecodingConfig:
    """How a translation is searched for."""

    search: str = "beam"
    """A name in SEARCHES: greedy or beam."""
    beam_size: Annotated[int, Field(gt=0, le=1000)] = 5
    length_penalty: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """The exponent α of the normalisation; 0 is none."""
    length_normalisation: str = "wu"
    """A name in NORMALISATIONS: wu is ((5 + |Y|) / 6)^α (arXiv:1609.08144, eq. 14), power |Y|^α."""
    precision: Literal["auto", "bf16", "float32"] = "auto"
    """Of matrix products on a CPU. auto: what is fastest on it. In float32 a
    translation is the same in any batch; in bf16 it rarely differs."""
    max_length: Annotated[int, Field(gt=0, lt=2**31)] = 256
    """Longest translation in tokens; it is also at most source length + 50 (arXiv:1706.03762,
    §6.1)."""
