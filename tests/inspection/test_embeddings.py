"""The plane is that of the largest variance, and neighbours are nearest."""

from collections.abc import Callable

import pytest
import torch

from calque.inspection import embeddings as module
from calque.inspection.embeddings import embeddings, neighbours, plane


def test_the_plane_holds_more_variance_than_any_other() -> None:
    generator = torch.Generator().manual_seed(1)
    vectors = torch.randn(300, 8, generator=generator) * torch.arange(8, 0, -1)
    points, shares = plane(vectors)
    total = vectors.var(dim=0).sum()
    torch.testing.assert_close(points.var(dim=0) / total, shares)
    assert shares[0] >= shares[1]
    for _ in range(20):
        axes = torch.linalg.qr(torch.randn(8, 2, generator=generator)).Q
        assert (vectors @ axes).var(dim=0).sum() <= points.var(dim=0).sum() + 1e-3


def test_points_on_a_plane_keep_their_distances() -> None:
    flat = torch.randn(50, 2) @ torch.linalg.qr(torch.randn(6, 2)).Q.T + 3
    points, shares = plane(flat)
    ours, theirs = (torch.pdist(x) for x in (points, flat))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    assert float(shares.sum()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("block", [7, 1024])
def test_neighbours_are_the_nearest_others(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    vectors = torch.randn(40, 5)
    nearest, cosines = neighbours(vectors, 6)
    for i in range(40):
        all_cosines = torch.cosine_similarity(vectors[i], vectors, dim=-1)
        all_cosines[i] = -2
        expected = all_cosines.topk(6)
        assert nearest[i].tolist() == expected.indices.tolist()
        torch.testing.assert_close(cosines[i], expected.values)


def test_a_joint_vocabulary_is_shown_once(make_translator: Callable) -> None:
    translator = make_translator()
    seen = embeddings(translator)
    assert list(seen) == ["both"]
    tokenizer = translator.tokenizers.target
    assert seen["both"]["pieces"] == tokenizer.pieces(list(range(tokenizer.vocab_size)))
    assert len(seen["both"]["points"]) == len(seen["both"]["neighbours"]) == tokenizer.vocab_size
    assert seen["both"]["left_out"] == 0


def test_separate_vocabularies_are_shown_each(make_translator: Callable) -> None:
    assert list(embeddings(make_translator(vocabulary="separate"))) == ["source", "target"]


def test_what_is_left_out_is_said(
    make_translator: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 50)
    (seen,) = embeddings(make_translator()).values()
    assert len(seen["pieces"]) == len(seen["points"]) == 50
    assert seen["left_out"] == 320 - 50
