"""`calque embed`: vectors that mean something, and trainings that start from them."""

import json

import pytest

from calque.demo.grammar import write_corpus

NOUNS = """dog cat horse bird man woman boy girl child teacher doctor student friend
house garden school kitchen station forest"""

TEXTS = "train.en", "train.d*", "--algorithm", "cbow"
SEPARATE = """
kind = "words"
vocab_size = 300
vocabulary = "separate"
"""
RECIPE = """
[data]
train = ["train.en", "train.de"]
valid = ["valid.en", "valid.de"]
[tokenizer]
vocab_size = 900
[model]
num_encoder_layers = 1
num_decoder_layers = 1
d_model = 32
d_ff = 64
num_heads = 2
dropout = 0.0
residual = "pre"
[training]
max_steps = 15
batch_tokens = 1024
validate_every = 15
save_every = 15
schedule = "cosine"
learning_rate = 0.004
warmup_steps = 5
stop_on = "loss"
[decoding]
search = "greedy"
max_length = 12
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, calque):
    """A corpus, a recipe, `v.st`: vectors of both sides, and what was said of them."""
    path = tmp_path_factory.mktemp("embed")
    write_corpus(path, seed=3, train=2500, valid=20, test=20)
    (path / "recipe.toml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        outcome = calque("embed", "recipe.toml", *TEXTS, "--out", "v.st", "--near", "dog")
    assert outcome.code == 0, outcome
    (path / "printed.txt").write_text(outcome.out)
    (path / "noted.txt").write_text(outcome.err)
    return path


@pytest.fixture(autouse=True)
def _there(folder, monkeypatch):
    monkeypatch.chdir(folder)


def answers(printed):
    """Question to pieces and their cosines."""
    lines = [line.partition(": ") for line in printed.splitlines()]
    pairs = {
        question: [a.rsplit(" ", 1) for a in found.split(" · ")] for question, _, found in lines
    }
    return {q: [(piece, float(cosine)) for piece, cosine in found] for q, found in pairs.items()}


def test_it_prints_the_neighbours_of_frequent_pieces_and_then_the_answers(folder):
    found = answers((folder / "printed.txt").read_text())
    assert len(found) == 11
    assert list(found)[-1] == "dog"
    for question, near in found.items():
        cosines = [cosine for _, cosine in near]
        assert cosines == sorted(cosines, reverse=True)
        assert question not in dict(near)
    noted = (folder / "noted.txt").read_text()
    assert "v.st: " in noted
    assert "of 900 pieces of the vocabulary occur in the text" in noted


def test_neighbours_of_nouns_are_nouns_more_often_than_chance(calque, folder):
    nouns, hits = {f"▁{noun}" for noun in NOUNS.split()}, []
    for noun in ("dog", "woman", "teacher", "house", "garden"):
        outcome = calque("embed", "recipe.toml", "--vectors", "v.st", "--near", noun)
        ((_, near),) = answers(outcome.out).items()
        hits += [piece in nouns for piece, _ in near[:4]]
    assert sum(hits) / len(hits) > 0.5  # by chance, 19 of some hundreds of pieces


def test_questions_of_vectors_that_there_are(calque, folder):
    before = (folder / "v.st").read_bytes()
    outcome = calque(
        *("embed", "recipe.toml", "--vectors", "v.st", "--near", "dogs and cats"),
        *("--analogy", "man", "woman", "boy"),
    )
    several, analogy = answers(outcome.out).items()
    assert several[0].startswith("dogs and cats (▁")
    assert analogy[0] == "man is to woman as boy to"
    assert "▁girl" in [piece for piece, _ in analogy[1][:3]]
    frequent = calque("embed", "recipe.toml", "--vectors", "v.st")
    assert frequent.out == "".join((folder / "printed.txt").read_text().splitlines(True)[:10])
    assert (folder / "v.st").read_bytes() == before


def loss(folder, run):
    lines = (folder / run / "metrics.jsonl").read_text().splitlines()
    return json.loads(lines[-1])["valid_loss"]


def test_training_from_vectors_is_ahead_of_training_from_chance(calque, folder):
    vectors = "--set", "training.embeddings=v.st"
    assert calque("train", "recipe.toml", "--out", "chance").code == 0
    outcome = calque("train", "recipe.toml", *vectors, "--out", "vectors")
    assert outcome.code == 0, outcome
    assert "embeddings: from v.st" in outcome.out
    assert loss(folder, "vectors") < loss(folder, "chance") - 0.1
    assert 'embeddings = "v.st"' in (folder / "vectors/recipe.toml").read_text()
    assert calque("embed", "vectors/recipe.toml", "--vectors", "v.st").code == 0
    assert calque("train", "recipe.toml", *vectors, "--from", "chance", "--out", "no").code == 2


def test_of_separate_vocabularies_one_side(calque, folder):
    separate = RECIPE.replace("vocab_size = 900", SEPARATE)
    (folder / "separate.toml").write_text(separate)
    asked = "embed", "separate.toml", "train.de", "--algorithm", "cbow", "--out", "target.st"
    assert "--side is missing" in calque(*asked).err
    assert calque(*asked, "--side", "target").code == 0
    found = calque("embed", "separate.toml", "--vectors", "target.st", "--near", "Hund")
    assert "Katze" in found.out
    freeze = "--set", "training.freeze_embeddings=true", "--set", "training.max_steps=2"
    outcome = calque(
        *("train", "separate.toml", "--set", "training.embeddings=target.st", *freeze),
        *("--out", "frozen"),
    )
    assert (outcome.code, "to be kept as they are" in outcome.out) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train.en"], "give TEXT to learn from and --out FILE, or --vectors FILE to ask about"),
        (["--out", "w.st"], "give TEXT to learn from and --out FILE"),
        (["train.en", "--vectors", "v.st"], "--vectors names a file that there is; leave out"),
        (["--side", "source", "--vectors", "v.st"], "--vectors names a file that there is"),
        (["train.en", "--out", "w.st", "--side", "source"], "--side source: the recipe has one"),
        (["train.en", "--out", "w.st", "--algorithm", "glove"], "--algorithm: no 'glove'; Choices"),
        (["none.*", "--out", "w.st"], "none.*: there is no such file"),
        (["train.en", "--out", "no/w.st"], "--out no/w.st: no file can be made there"),
        (["--vectors", "train.en"], "train.en: not a whole safetensors file"),
        (["--vectors", "v.st", "--near", "☃"], "'☃': the text did not have it"),
    ],
    ids=str,
)
def test_what_cannot_be_is_one_message(arguments, message, calque, folder):
    outcome = calque("embed", "recipe.toml", *arguments)
    assert outcome.code == 2
    assert outcome.err.splitlines()[-1].startswith(f"Error: {message}")
    assert not (folder / "w.st").exists()
