"""Two models to search in: one whose probabilities are written down, and a small Transformer."""

import math
from collections.abc import Callable
from functools import cache
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from calque.models.transformer import Transformer, TransformerConfig

PAD, UNK, BOS, EOS, A, B = range(6)

Ids = tuple[int, ...]


class Sources:
    """The memory of a TableModel: the ids of each source."""

    def __init__(self, ids: list[Ids]) -> None:
        self.ids = ids

    def select(self, rows: Tensor) -> "Sources":
        return Sources([self.ids[row] for row in rows.tolist()])


class Targets:
    """The past of a TableModel: the ids of each target so far, BOS first."""

    def __init__(self, ids: list[Ids]) -> None:
        self.ids = ids

    def select(self, rows: Tensor) -> None:
        self.ids = [self.ids[row] for row in rows.tolist()]


class TableModel:
    """Next-token probabilities as a function of the source and of the target so far."""

    config = SimpleNamespace(pad_id=PAD, bos_id=BOS, eos_id=EOS, target_vocab_size=B + 1)

    def __init__(self, table: Callable[[Ids, Ids], dict[int, float]]) -> None:
        self.table = table

    def encode(self, source: Tensor) -> Sources:
        return Sources([tuple(i for i in row if i != PAD) for row in source.tolist()])

    def start(self, memory: Sources) -> Targets:
        return Targets([()] * len(memory.ids))

    def decode(self, target: Tensor, memory: Sources, past: Targets) -> Tensor:
        sharing = len(past.ids) // len(memory.ids)
        sources = [ids for ids in memory.ids for _ in range(sharing)]
        steps = [self._step(sources, tokens, past) for tokens in target.T.tolist()]
        return torch.tensor(steps).transpose(0, 1)

    def _step(self, sources: list[Ids], tokens: list[int], past: Targets) -> list[list[float]]:
        past.ids = [(*ids, token) for ids, token in zip(past.ids, tokens, strict=True)]
        rows = zip(sources, past.ids, strict=True)
        chances = [self.table(source, target[1:]) for source, target in rows]
        return [[math.log(row.get(i, 1e-9)) for i in range(B + 1)] for row in chances]


@pytest.fixture(scope="session")
def table_model() -> type[TableModel]:
    return TableModel


def random_table_model(seed: int) -> TableModel:
    """Any target may follow any source, with probabilities drawn from both."""

    @cache
    def draw(source: Ids, target: Ids) -> dict[int, float]:
        generator = torch.Generator().manual_seed(hash((seed, source, target)) % 2**32)
        chances = torch.randn(B + 1, generator=generator).mul(1.5).softmax(dim=0)
        return dict(enumerate(chances.tolist()))

    return TableModel(draw)


@pytest.fixture(scope="session")
def random_table() -> TableModel:
    return random_table_model(0)


@pytest.fixture(scope="session")
def random_tables() -> list[TableModel]:
    return [random_table_model(seed) for seed in range(1, 9)]


@pytest.fixture(scope="session")
def transformer() -> Transformer:
    """Its weights, larger than at the start of a training, make targets that differ in length."""
    torch.manual_seed(28)
    sizes = {"num_encoder_layers": 2, "num_decoder_layers": 2, "d_model": 16, "d_ff": 32}
    vocabularies = {"source_vocab_size": B + 1, "target_vocab_size": B + 1}
    model = Transformer(TransformerConfig(num_heads=2, **sizes, **vocabularies))
    for weight in model.parameters():
        if weight.dim() == 2:
            nn.init.normal_(weight, std=0.3 if weight is model.embedding.table.weight else 0.5)
    return model.eval()


@pytest.fixture(params=["random_table", "transformer"])
def model(request: pytest.FixtureRequest) -> TableModel | Transformer:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def sources() -> Tensor:
    """Five sentences of 1 to 7 tokens, EOS included."""
    rows = [[A, B, EOS], [EOS], [B, B, UNK, A, A, A, EOS], [A, EOS], [UNK, A, B, A, EOS]]
    return torch.tensor([row + [PAD] * (7 - len(row)) for row in rows])


@pytest.fixture(scope="session")
def forced() -> Callable[[object, Tensor, Ids], list[float]]:
    """Log-probability of each token of a target and of its EOS, in one go without a search."""

    @cache
    @torch.inference_mode()
    def score(model: TableModel | Transformer, source: Ids, tokens: Ids) -> list[float]:
        memory = model.encode(torch.tensor([source]))
        target = torch.tensor([[BOS, *tokens]])
        log_probs = model.decode(target, memory, model.start(memory))[0].log_softmax(dim=-1)
        return [log_probs[i, token].item() for i, token in enumerate((*tokens, EOS))]

    return lambda model, source, tokens: score(model, tuple(source.tolist()), tokens)


@pytest.fixture(scope="session")
def all_targets() -> Callable[[int], list[Ids]]:
    """Every target of up to so many tokens."""
    return lambda longest: [
        tokens for length in range(longest + 1) for tokens in product((UNK, A, B), repeat=length)
    ]
