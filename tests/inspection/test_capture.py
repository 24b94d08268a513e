"""A look shows the translation that there is, and what the model saw while making it."""

import json
from collections.abc import Callable

import pytest
import torch
from torch import nn

from calque.config import CalqueError
from calque.decoding import SEARCHES
from calque.inspection import look
from calque.inspection.attention import captured
from calque.inspection.capture import ALTERNATIVES, LONGEST
from calque.models.build import FAMILIES, SLOTS
from calque.text.tokenizers import TOKENIZERS
from calque.translator import Translation, Translator

LINES = ["The small cat opens the door.", "xyzzy ☃ <script>", "old", ""]
HEADS, LAYERS = 4, 2
DECODER = [f"decoder.{i}.{kind}_attention" for i in range(LAYERS) for kind in ("self", "cross")]
NAMES = [*(f"encoder.{i}.self_attention" for i in range(LAYERS)), *DECODER]

Make = Callable[..., Translator]


@pytest.fixture(params=["joint", "separate"])
def translator(make_translator: Make, request: pytest.FixtureRequest) -> Translator:
    return make_translator(vocabulary=request.param)


def assert_same(found: Translation, expected: Translation) -> None:
    """Short of the last digits: a search that is recorded finds its candidates in another way."""
    assert (found.text, found.hypothesis.tokens) == (expected.text, expected.hypothesis.tokens)
    assert found.score == pytest.approx(expected.score, abs=1e-5)
    log_probs = pytest.approx(expected.hypothesis.token_log_probs, abs=1e-5)
    assert found.hypothesis.token_log_probs == log_probs


@pytest.mark.parametrize("line", LINES)
def test_it_is_the_translation_that_translate_gives(translator: Translator, line: str) -> None:
    seen = translator.look(line)
    assert_same(seen.translation, translator.n_best([line])[0][0])
    assert [seen.translation.text] == translator.translate([line])
    sides = translator.tokenizers
    (ids,) = sides.source.encode([line])
    assert seen.source == [*sides.source.pieces(ids), "</s>"]
    assert seen.target == [*sides.target.pieces(seen.translation.hypothesis.tokens), "</s>"]


PARTS = [(slot, name) for slot, names in SLOTS.items() for name in names]


@pytest.mark.parametrize(("slot", "name"), PARTS)
def test_every_part_can_be_looked_at(make_translator: Make, slot: str, name: str) -> None:
    translator = make_translator("words", **{slot: name})
    seen = look(translator, "The house is old")
    assert_same(seen.translation, translator.n_best(["The house is old"])[0][0])
    assert list(seen.weights) == NAMES
    assert len(seen.attention("cross")) == LAYERS
    assert seen.alignment is not None


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_looked_at(make_translator: Make, family: str) -> None:
    translator = make_translator(family=family)
    seen = look(translator, LINES[0])
    assert_same(seen.translation, translator.n_best([LINES[0]])[0][0])
    assert seen.attention("cross")
    assert seen.tree.ends
    json.dumps(seen.to_json(), allow_nan=False)


def test_a_model_without_attention_has_empty_maps(make_translator: Make) -> None:
    seen = look(make_translator(family="recurrent", attention="none"), LINES[0])
    assert seen.weights == {}
    assert seen.heads == []
    assert seen.alignment is None
    assert seen.to_json()["attention"] == {"encoder": [], "decoder": [], "cross": []}
    assert len(seen.log_probs) == len(seen.target)


def test_mixtures_of_keys_are_no_map_of_tokens(make_translator: Make) -> None:
    seen = look(make_translator(pattern="linformer", projected_length=5), LINES[0])
    assert seen.attention("encoder") == []
    assert len(seen.attention("decoder")) == len(seen.attention("cross")) == LAYERS


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_translation_that_begins_as_told(make_translator: Make, search: str, family: str) -> None:
    translator = make_translator(family=family, search=search)
    own = look(translator, LINES[0]).translation.hypothesis.tokens
    beginning = [*own[:2], 7 if own[2] != 7 else 8]
    seen = look(translator, LINES[0], beginning)
    tokens = seen.translation.hypothesis.tokens
    assert list(tokens[:3]) == beginning
    assert [seen.translation.text] == translator.tokenizers.target.decode([tokens])
    searched = torch.tensor(seen.translation.hypothesis.token_log_probs)
    torch.testing.assert_close(seen.log_probs, searched, rtol=0, atol=1e-4)
    first = [node.piece for node in seen.tree.nodes if node.step in (1, 2, 3)]
    assert first == translator.tokenizers.target.pieces(beginning)
    assert len(seen.tree.winners()) == len(tokens) + 1
    assert seen.tree.ends[0].text == seen.translation.text
    assert seen.tree.nodes[seen.tree.ends[0].node].log_prob == pytest.approx(
        float(searched[:-1].sum()), abs=1e-3
    )


def test_a_beginning_of_the_translation_itself_changes_nothing(translator: Translator) -> None:
    own = look(translator, LINES[0])
    seen = look(translator, LINES[0], own.translation.hypothesis.tokens[:1])
    assert seen.translation.score >= own.translation.score - 1e-4
    assert seen.source == own.source


@pytest.mark.parametrize(
    ("beginning", "message"),
    [
        ([0], "has the id 0"),
        ([2], "has the id 2"),
        ([7, 3], "has the id 3"),
        ([10**30], "has the id 1000"),
        ([-1], "has the id -1"),
        ([7] * 12, "12 tokens, of at most 12"),
    ],
)
def test_what_no_translation_begins_with_is_refused(
    make_translator: Make, beginning: list[int], message: str
) -> None:
    with pytest.raises(CalqueError, match=message):
        look(make_translator(), LINES[0], beginning)


def test_a_row_for_each_predicted_piece_and_a_column_for_each_piece_seen(
    translator: Translator,
) -> None:
    seen = look(translator, LINES[0])
    source, target = len(seen.source), len(seen.target)
    sides = {"encoder": (source, source), "decoder": (target, target), "cross": (target, source)}
    for kind, shape in sides.items():
        assert [tuple(w.shape) for w in seen.attention(kind)] == [(HEADS, *shape)] * LAYERS


@torch.inference_mode()
def test_weights_and_log_probs_are_those_of_decoding_step_by_step(translator: Translator) -> None:
    model, (ids,) = translator.model, translator.tokenizers.source.encode(["The house."])
    seen = look(translator, "The house.")
    memory = model.encode(torch.tensor([[*ids, model.config.eos_id]]))
    past, tokens = model.start(memory), seen.translation.hypothesis.tokens
    following = [*tokens, model.config.eos_id]
    for i, token in enumerate([model.config.bos_id, *tokens]):
        with captured(model) as weights:
            logits = model.decode(torch.tensor([[token]]), memory, past)
        assert seen.log_probs[i] == pytest.approx(
            float(logits[0, 0].log_softmax(-1)[following[i]]), abs=1e-4
        )
        for name in DECODER:
            row = weights[name][0][0, :, 0]
            expected = seen.weights[name][:, i, : row.size(1)]
            torch.testing.assert_close(row, expected, rtol=0, atol=1e-5)
    assert len(tokens) > 1


def test_log_probs_are_those_of_the_search(translator: Translator) -> None:
    for line in LINES[:-1]:
        seen = look(translator, line)
        searched = torch.tensor(seen.translation.hypothesis.token_log_probs)
        torch.testing.assert_close(seen.log_probs, searched, rtol=0, atol=1e-4)


def test_alternatives_are_the_likeliest_others(translator: Translator) -> None:
    seen = look(translator, LINES[0])
    for piece, log_prob, others in zip(
        seen.target, seen.log_probs.tolist(), seen.alternatives, strict=True
    ):
        values = [other.log_prob for other in others]
        assert len(others) == ALTERNATIVES
        assert values == sorted(values, reverse=True)
        assert piece not in {other.piece for other in others} - {"<unk>"}
        assert not {"<pad>", "<s>"} & {other.piece for other in others}
        assert sum(torch.tensor([log_prob, *values]).exp().tolist()) <= 1 + 1e-6


def test_greedy_search_takes_what_has_no_likelier_alternative(make_translator: Make) -> None:
    seen = look(make_translator(search="greedy"), LINES[0])
    for log_prob, others in zip(seen.log_probs[:-1].tolist(), seen.alternatives, strict=False):
        assert others[0].log_prob <= log_prob + 1e-6


def test_looking_leaves_the_translator_as_it_was(translator: Translator) -> None:
    def hooks(model: nn.Module) -> int:
        return sum(len(module._forward_hooks) for module in model.modules())

    before = translator.translate(LINES)
    searched = translator._searched
    look(translator, LINES[0])
    assert translator.translate(LINES) == before
    assert translator._searched is searched
    assert hooks(translator.model) == 0


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_every_tokenizers_pieces_can_be_looked_at(make_translator: Make, kind: str) -> None:
    seen = look(make_translator(kind), "the old house")
    assert seen.source_words[-1].end == len(seen.source)
    assert seen.target_words[-1].end == len(seen.target)
    assert [word.text for word in seen.source_words][:-1] == ["the", "old", "house"] or kind in (
        "words",
        "wordpiece",
    )


def test_a_fused_model_is_looked_at_by_its_plain_copy(make_translator: Make) -> None:
    fused, plain = (make_translator(path=path) for path in ("fused", "plain"))
    ours, theirs = look(fused, LINES[0]), look(plain, LINES[0])
    assert ours.translation.text == theirs.translation.text
    for name in NAMES:
        torch.testing.assert_close(ours.weights[name], theirs.weights[name])


def test_a_sentence_that_is_too_long_is_refused(make_translator: Make) -> None:
    translator = make_translator("characters")
    look(translator, "a" * LONGEST)
    with pytest.raises(CalqueError, match=f"at most {LONGEST}"):
        look(translator, "a" * (LONGEST + 1))


def test_a_notebook_shows_the_whole_page(make_translator: Make) -> None:
    shown = look(make_translator(), LINES[1])._repr_html_()
    assert shown.startswith("<iframe srcdoc=")
    assert "<script>" not in shown  # of the sentence or of the page: all is quoted
    assert "attentionView" in shown
