"""The rules that every search keeps: what scores are divided by, and who leaves a batch when."""

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from calque.config import CalqueError
from calque.decoding import SEARCHES, hypothesis
from calque.decoding.config import DecodingConfig
from calque.decoding.hypothesis import GROUP, SMALL, length_penalties, stay
from calque.models.fast_decoding import FastTransformer
from calque.models.kernel_decoding import KernelTransformer

EOS, B = 3, 5

every_search = pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)


@pytest.fixture(scope="module")
def many_sources() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(0, 7, (3 * GROUP + 5,), generator=generator).tolist()
    rows = [torch.randint(EOS + 1, B + 1, (length,), generator=generator) for length in lengths]
    ended = [torch.cat([row, torch.tensor([EOS])]) for row in rows]
    return pad_sequence(ended, batch_first=True)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_penalties_by_length(alpha):
    longest = 7
    for name, base in (("wu", lambda n: (5 + n) / 6), ("power", lambda n: n)):
        config = DecodingConfig(length_penalty=alpha, length_normalisation=name)
        found = length_penalties(torch.tensor([3, longest]), config).tolist()
        assert len(found) == longest + 2  # also of the longest with its EOS
        lengths = range(1, len(found))
        assert found[1:] == pytest.approx([base(length) ** alpha for length in lengths])


def test_an_unknown_normalisation_is_an_error_with_the_choices():
    config = DecodingConfig(length_normalisation="wuu")
    with pytest.raises(CalqueError, match="length_normalisation: no 'wuu'; did you mean 'wu'"):
        length_penalties(torch.tensor([3]), config)


@pytest.mark.parametrize("size", [1, SMALL, GROUP - 1, GROUP, 5 * GROUP + 3])
def test_all_that_wait_stay_and_only_so_many_more(size):
    generator = torch.Generator().manual_seed(size)
    for share in (0, 0.1, 0.5, 1):
        waiting = torch.rand(size, generator=generator) < share
        number = int(waiting.sum())
        staying = stay(waiting).tolist()
        assert staying == sorted(set(staying))
        assert set(waiting.nonzero().flatten().tolist()) <= set(staying)
        assert len(staying) < number + GROUP
        if number <= SMALL:
            assert len(staying) == number
        else:
            assert len(staying) % GROUP == 0 or len(staying) == size


@every_search
def test_who_stays_changes_no_result(search, model, many_sources, monkeypatch):
    config = DecodingConfig(beam_size=3, max_length=12)
    known = search(model, many_sources, config)
    assert len({len(n_best[0].tokens) for n_best in known}) > 1
    for group, small in ((1, 0), (5, 3), (len(many_sources), 0)):
        monkeypatch.setattr(hypothesis, "GROUP", group)
        monkeypatch.setattr(hypothesis, "SMALL", small)
        for before, after in zip(known, search(model, many_sources, config), strict=True):
            assert [one.tokens for one in after] == [one.tokens for one in before]
            scores = [one.score for one in before]
            assert [one.score for one in after] == pytest.approx(scores, abs=1e-5)


@every_search
@pytest.mark.parametrize("kind", [FastTransformer, KernelTransformer])
def test_on_the_fast_path_it_finds_the_same(search, kind, transformer, many_sources):
    if not kind.can_take(transformer):
        pytest.skip("no C compiler")
    config = DecodingConfig(beam_size=4, max_length=25)
    plain, quick = (
        search(model, many_sources, config) for model in (transformer, kind(transformer))
    )
    assert len({len(found[0].tokens) for found in quick}) > 1
    for expected, found in zip(plain, quick, strict=True):
        assert [one.tokens for one in found] == [one.tokens for one in expected]
        scores = [one.score for one in expected]
        assert [one.score for one in found] == pytest.approx(scores, abs=1e-4)
