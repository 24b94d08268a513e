"""What other software can express of a model."""

from collections.abc import Collection, Mapping

from calque.config import CalqueError
from calque.models.build import SLOTS, AnyModelConfig, ModelConfig


def require_expressible(
    config: AnyModelConfig, theirs: Mapping[str, Collection[str]], name: str
) -> ModelConfig:
    """The configuration, once it is known that `name` has each of its parts.

    `theirs` is, for each key of a recipe's `model` section, what it has. Raises CalqueError naming
    the part that it does not.
    """
    if not isinstance(config, ModelConfig):
        raise CalqueError(f"model.family: {name} has no {config.family!r}; it has: transformer")
    for slot in SLOTS:
        part = getattr(config, slot)
        if part not in theirs[slot]:
            raise CalqueError(
                f"model.{slot}: {name} has no {part!r}; it has: {', '.join(theirs[slot])}"
            )
    if config.key_width != config.d_head:
        raise CalqueError(
            f"model.d_key: {name} has queries and keys of the width of values, {config.d_head}, "
            f"not {config.key_width}"
        )
    return config
