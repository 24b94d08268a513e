"""CoNLL-U is read as it is meant, and what is no tree is named; trees keep to their lines."""

import pickle
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from calque.config import CalqueError
from calque.text.corpus import read_pairs
from calque.text.data import CorpusConfig
from calque.text.tokenizers import TOKENIZERS
from calque.text.tokenizers.interface import Tokenizer
from calque.text.trees import (
    CONTINUES,
    Sentence,
    Tree,
    beside,
    merged,
    over_tokens,
    read_conllu,
    token_trees,
)

DONT = """\
# text = Don't go (there) now.
1-2	Don't	_	_	_	_	_	_	_	_
1	Do	do	AUX	_	_	3	aux	_	_
2	n't	not	PART	_	_	3	advmod	_	_
3	go	go	VERB	_	_	0	root	_	_
3.1	went	go	VERB	_	_	_	_	3:conj	_
4	(	(	PUNCT	_	_	5	punct	_	SpaceAfter=No
5	there	there	ADV	_	_	3	advmod	_	SpaceAfter=No
6	)	)	PUNCT	_	_	5	punct	_	_
7	now	now	ADV	_	_	3	advmod	_	SpaceAfter=No
8	.	.	PUNCT	_	_	3	punct	_	_

"""
LINE = "Don't go (there) now."


def conllu(*words: tuple[str, int]) -> str:
    rows = [
        f"{number}\t{form}\t_\t_\t_\t_\t{head}\t_\t_\t_"
        for number, (form, head) in enumerate(words, start=1)
    ]
    return "\n".join([*rows, "", ""])


def file_of(folder: Path, text: str, name: str = "t.conllu") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# Reading


def test_ranges_stand_for_their_words_and_empty_nodes_for_nothing(tmp_path: Path) -> None:
    (found,) = read_conllu(file_of(tmp_path, DONT))
    assert found.spelled == LINE.replace(" ", "")
    assert found.tree == Tree((5, 2, 1, 5, 1, 3, 1), (1, 1, 3, 1, 3, 1, 1))


def test_a_last_sentence_needs_no_empty_line_and_comments_may_stand_alone(tmp_path: Path) -> None:
    text = "# newdoc\n\n" + DONT + "\n\n# end\n" + conllu(("Yes", 0)).rstrip()
    found = list(read_conllu(file_of(tmp_path, text)))
    assert [one.spelled for one in found] == ["Don'tgo(there)now.", "Yes"]
    assert [one.place.rpartition(":")[2] for one in found] == ["4", "18"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (conllu(("a", 2), ("b", 0), ("c", 5)), ":3: word 3 has the head '5'; .* the 3 words"),
        (conllu(("a", 0)).replace("\t0", "\t_"), ":1: word 1 has the head '_'"),
        (conllu(("a", 0), ("b", 1), ("c", 0)), r":3: a second root; the first is .*:1$"),
        (conllu(("a", 0), ("b", 3), ("c", 2)), ":2: no way leads from word 2 up to a root"),
        (conllu(("a", 2), ("b", 1)), ":1: no way leads from word 1"),
        (conllu(("a", 0), ("b", 2)), ":2: word 2 has the head '2'; expected another"),
        ("1\ta\t0\n\n", ":1: 3 columns; CoNLL-U has 10"),
        (DONT.replace("\n7\t", "\n9\t"), ":10: word '9', where 7 was expected"),
        (DONT.replace("1-2", "1-9"), ":2: the range '1-9'"),
        (DONT.replace("1-2", "2-3"), ":2: the range '2-3'"),
        (DONT.replace("1-2", "1-x"), ":2: the range '1-x'"),
        (conllu((" ", 0)), ":1: word 1 has no form"),
        ("8.1\ta\t_\t_\t_\t_\t_\t_\t_\t_\n\n", ":1: a tree without words"),
    ],
    ids=range(13),
)
def test_what_is_no_tree_is_named_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    path = file_of(tmp_path, text)
    with pytest.raises(CalqueError, match=told) as refusal:
        list(read_conllu(path))
    assert str(refusal.value).startswith(str(path))


def test_real_trees_spell_their_texts(shared_data: Path) -> None:
    path = shared_data / "ud-en-ewt" / "en_ewt-ud-dev.conllu"
    texts = [
        line.removeprefix("# text = ")
        for line in path.read_text("utf-8").splitlines()
        if line.startswith("# text = ")
    ]
    found = list(beside(((text, f"dev:{n}") for n, text in enumerate(texts)), [path]))
    assert found == texts
    assert len(found) == 2001
    for line in found:
        assert isinstance(line, Sentence)
        assert sum(line.tree.lengths) == len("".join(line.split()))
        assert sum(head == word for word, head in enumerate(line.tree.heads)) == 1


# In step with lines


def test_lines_get_their_trees_and_empty_ones_have_none(tmp_path: Path) -> None:
    (tmp_path / "s").write_text(f"{LINE}\n\n \nYes\n")
    (tmp_path / "t").write_text("a\n\n\nb\n")
    trees = file_of(tmp_path, DONT), file_of(tmp_path, conllu(("Yes", 0)), "u.conllu")
    files = {"source": str(tmp_path / "s"), "target": str(tmp_path / "t")}
    corpus = CorpusConfig(**files, trees=tuple(map(str, trees)))
    pairs = list(read_pairs(corpus, None))  # pyright: ignore
    assert [p.source for p in pairs] == [LINE, "", " ", "Yes"]
    assert [isinstance(p.source, Sentence) for p in pairs] == [True, False, False, True]
    assert [p.target for p in pairs] == ["a", "", "", "b"]


@pytest.mark.parametrize(("lines", "trees"), [(4, 3), (2, 3), (1, 5), (5, 0)])
def test_unequal_numbers_are_told(tmp_path: Path, lines: int, trees: int) -> None:
    path = file_of(tmp_path, trees * conllu(("Yes", 0)))
    given_lines = [("Yes", f"x.en:{n}") for n in range(1, lines + 1)]
    told = f"{path} has {trees} trees, but x.en has {lines} lines with text"
    with pytest.raises(CalqueError, match=told):
        list(beside(given_lines, [path]))


def test_a_tree_of_another_line_is_named_with_both_places(tmp_path: Path) -> None:
    path = file_of(tmp_path, conllu(("Yes", 0)) + DONT)
    with pytest.raises(CalqueError, match=rf"{path}:4: .* do not spell x.en:2: 'Do not go'"):
        list(beside([("Yes", "x.en:1"), ("Do not go", "x.en:2")], [path]))


def test_a_sentence_is_a_line_that_keeps_its_tree() -> None:
    sentence = Sentence("a b", Tree((1, 1), (0, 0)))
    assert sentence == "a b"
    again = pickle.loads(pickle.dumps(sentence))
    assert (again, again.tree) == (sentence, sentence.tree)


# Over tokens


@st.composite
def sentences(draw: st.DrawFn) -> Sentence:
    """A line of words with or without spaces between them, and any tree."""
    form = st.text(st.sampled_from("abdogé狗’."), min_size=1, max_size=5)
    forms = draw(st.lists(form, min_size=1, max_size=8))
    gaps = draw(st.lists(st.sampled_from(["", " ", "  "]), min_size=len(forms) + 1, max_size=99))
    line = gaps[0] + "".join(form + gap for form, gap in zip(forms, gaps[1:], strict=False))
    order = draw(st.permutations(range(len(forms))))
    heads = list(range(len(forms)))
    for number, word in enumerate(order[1:], start=1):
        heads[word] = order[draw(st.integers(0, number - 1))]
    return Sentence(line, Tree(tuple(map(len, forms)), tuple(heads)))


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    kind = TOKENIZERS[request.param]
    size = {"bpe": 270, "unigram": 270, "wordpiece": 24, "characters": 12, "words": 8}
    return kind.train(3 * ["a dog", "bad dogs", "dog . ab é", "good’ ."], size[request.param])


@given(line=sentences())
def test_tokens_of_a_word_are_one_node_and_hang_where_it_hangs(
    tokenizer: Tokenizer, line: Sentence
) -> None:
    (ids,), (ends,), (tree,) = (
        tokenizer.encode([line]),
        tokenizer.ends([line]),
        token_trees([line], tokenizer),
    )
    assert len(ids) == len(ends) == len(tree)
    # Which word each character is of, and which token.
    words = [w for w, length in enumerate(line.tree.lengths) for _ in range(length)]
    tokens = [t for t, (a, b) in enumerate(zip([0, *ends], ends, strict=False)) for _ in line[a:b]]
    of_characters = [t for t, character in zip(tokens, line, strict=False) if character != " "]
    node = [token for token, head in enumerate(tree) if head != CONTINUES]
    of_token = {t: max(n for n in node if n <= t) for t in range(len(tree))}
    nodes = [of_token[token] for token in of_characters]
    for here, there in zip(range(len(words)), range(1, len(words)), strict=False):
        together = words[here] == words[there] or of_characters[here] == of_characters[there]
        assert (nodes[here] == nodes[there]) is together
    # One root, and each node hangs on that of a head of one of its words.
    assert [tree[n] == n for n in node].count(True) == 1
    for n in node:
        mine = {word for word, at in zip(words, nodes, strict=True) if at == n}
        heads = {line.tree.heads[word] for word in mine}
        assert tree[n] in {at for word, at in zip(words, nodes, strict=True) if word in heads}
        way = [n]
        while tree[way[-1]] != way[-1]:
            assert tree[way[-1]] not in way
            way.append(tree[way[-1]])


def test_words_that_share_a_token_are_one() -> None:
    tree = Tree((2, 3, 2), (2, 0, 2))  # do n't go
    assert over_tokens(tree, "don't go", [5, 6, 8]) == [1, 1, CONTINUES]
    assert over_tokens(tree, "don't go", [1, 2, 5, 6, 8]) == [3, -1, 0, 3, -1]
    assert over_tokens(tree, "don't go", [4, 5, 8]) == [2, -1, 2]


def test_merged_words_never_hang_in_a_circle() -> None:
    # a → d, d → b: were a and b one by a's head alone, they and d would hang on each other.
    heads, groups = [3, 2, 2, 1], [0, 0, 1, 2]
    assert merged(heads, groups) == [1, 1, 0]


@given(
    line=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁\n"), max_size=30)
)
def test_tokens_end_in_order_and_cover_their_line(tokenizer: Tokenizer, line: str) -> None:
    assume(line.strip())
    (ids,), (ends,) = tokenizer.encode([line]), tokenizer.ends([line])
    assert len(ids) == len(ends)
    assert ends == sorted(ends)
    assert not line[ends[-1] :].strip()
