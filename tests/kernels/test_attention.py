"""Attention among rows: what plain attention finds, sentence by sentence, and its gradients."""

import pytest
import torch
from torch import Tensor

from calque.kernels.attention import Attend
from calque.kernels.library import library

pytestmark = pytest.mark.skipif(library() is None, reason="no C compiler")

SENTENCES = {
    "lengths around a vector and a block": ([1, 15, 16, 17, 33, 64, 2], [1, 17, 16, 3, 32, 70, 9]),
    "one of many": ([1], [700]),
    "many of one": ([300], [1]),
}
"""Queries and keys of each."""
SIZES = [(1, 16), (4, 32), (3, 5), (2, 40)]
"""Heads, and the numbers of each."""


def plain(vectors: list[Tensor], lengths: list[list[int]], heads: int, causal: bool) -> Tensor:
    """In float64, by the formula."""
    sides = zip(vectors, [lengths[0], lengths[1], lengths[1]], strict=True)
    found = [vectors[0].new_zeros(0, vectors[0].size(1))]
    parts = (rows.split(of_side) for rows, of_side in sides)
    for sentence in zip(*parts, strict=True):
        query, key, value = (x.unflatten(1, (heads, -1)).transpose(0, 1) for x in sentence)
        scores = query @ key.mT / query.size(2) ** 0.5
        if causal:
            seen = torch.ones(scores.shape[1:], dtype=torch.bool).tril()
            scores = scores.masked_fill(~seen, -torch.inf)
        found.append((scores.softmax(dim=-1) @ value).transpose(0, 1).flatten(1))
    return torch.cat(found)


def starts(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(dim=0)


def apart(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / (expected.norm() + 1e-30))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("heads, d_head", SIZES, ids=str)
@pytest.mark.parametrize("causal", [False, True], ids=["across", "causal"])
@pytest.mark.parametrize("sentences", SENTENCES)
def test_it_is_plain_attention(sentences, causal, heads, d_head, dtype, threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    queries, keys = SENTENCES[sentences]
    keys = queries if causal else keys
    d_model = heads * d_head
    # As projections make them: keys and values side by side, and rows behind the sentences.
    query = 2 * torch.randn(sum(queries) + 3, d_model)
    both = torch.randn(sum(keys) + 5, 2 * d_model)
    of_found = torch.randn(len(query), d_model)
    query, both, of_found = query.to(dtype), both.to(dtype), of_found.to(dtype)
    vectors = [query, *both.split(d_model, dim=1)]
    attend = Attend(starts(queries), starts(keys), heads, causal)
    found = attend(vectors)
    of_query, of_both = torch.full_like(query, 7), torch.full_like(both, 7)
    attend.gradient(vectors, of_found, [of_query, *of_both.split(d_model, dim=1)])

    real = [len(query) - 3, len(both) - 5, len(both) - 5]
    leaves = [x[:n].double().requires_grad_() for x, n in zip(vectors, real, strict=True)]
    expected = plain(leaves, [queries, keys], heads, causal)
    expected.backward(of_found[: real[0]].double())
    limit = 2e-6 if dtype == torch.float32 else 6e-3
    assert apart(found[: real[0]], expected.detach()) < limit
    assert not found[real[0] :].any()
    places = [of_query, *of_both.split(d_model, dim=1)]
    for place, leaf, number in zip(places, leaves, real, strict=True):
        assert leaf.grad is not None
        assert apart(place[:number], leaf.grad) < 2 * limit
        assert place[number:].eq(7).all()  # are not its own


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_large_scores_stay_finite(dtype):
    rows = 200 * torch.randn(40, 32).to(dtype)
    found = Attend(starts([40]), starts([40]), 2)([rows, rows, rows])
    assert found.isfinite().all()
    assert found.abs().max() <= rows.abs().max()


def test_what_is_not_finite_is_not_hidden():
    rows, keys = torch.randn(2, 9, 32)
    keys[4, 3] = torch.nan
    assert Attend(starts([9]), starts([9]), 2)([rows, keys, rows])[:, :16].isnan().all()


def test_the_future_is_unseen():
    rows, other = torch.randn(20, 32), torch.randn(20, 32)
    other[:12] = rows[:12]
    attend = Attend(starts([20]), starts([20]), 2, causal=True)
    assert torch.equal(attend([rows] * 3)[:12], attend([other] * 3)[:12])


def test_other_numbers_are_refused():
    rows = torch.randn(4, 16).double()
    with pytest.raises(TypeError, match="float64"):
        Attend(starts([4]), starts([4]), 2)([rows] * 3)
