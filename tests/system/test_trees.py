"""Structural positions by the command line, on real trees: trained, validated, translated."""

import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from calque.config import CalqueError
from calque.inspection import look
from calque.serving.loaded import Loaded, load
from calque.text.parsers import PARSERS

RECIPE = """
[data]
source_language = "en"
target_language = "de"
max_ratio = 99.0
[data.train]
source = "{folder}/train.en"
target = "{folder}/train.depth"
trees = "{folder}/train.conllu"
[data.valid]
source = "{folder}/dev.en"
target = "{folder}/dev.depth"
trees = "{folder}/dev.conllu"
[tokenizer]
kind = "words"
vocab_size = 40
[model]
positions = "{positions}"
num_encoder_layers = 1
num_decoder_layers = 1
d_model = 32
d_ff = 64
num_heads = 2
dropout = 0.0
residual = "pre"
[training]
max_steps = 300
batch_tokens = 1024
validate_every = 300
save_every = 300
schedule = "cosine"
learning_rate = 0.02
warmup_steps = 5
label_smoothing = 0.0
[decoding]
beam_size = 2
max_length = 12
precision = "float32"
"""


def blocks_of(file: Path) -> list[str]:
    return file.read_text("utf-8").strip().split("\n\n")


def words_of(block: str) -> list[list[str]]:
    rows = [line.split("\t") for line in block.splitlines() if not line.startswith("#")]
    return [row for row in rows if row[0].isdecimal()]


def depth_of(block: str) -> str:
    """What is to be learnt: how deep a tree is, which nothing but itself tells."""
    heads = {row[0]: row[6] for row in words_of(block)}

    def depth(word: str) -> int:
        return 0 if heads[word] == "0" else 1 + depth(heads[word])

    return "abcdefgh"[max(map(depth, heads))]


def chained(block: str) -> str:
    """The same words, each of them hanging on the one before."""
    rows = [[*row[:6], str(place), *row[7:]] for place, row in enumerate(words_of(block))]
    return "\n".join("\t".join(row) for row in rows)


@pytest.fixture(scope="module")
def treebank(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of short sentences (.en), their trees (.conllu) and how deep they are (.depth)."""
    folder = tmp_path_factory.mktemp("treebank")
    for split, number in (("train", 1500), ("dev", 60)):
        blocks = blocks_of(shared_data / "ud-en-ewt" / f"en_ewt-ud-{split}.conllu")
        whole = [b for b in blocks if "\n1-2\t" not in b and "-" not in words_of(b)[0][0]]
        chosen = [b for b in whole if 3 <= len(words_of(b)) <= 8][:number]
        (folder / f"{split}.conllu").write_text("\n\n".join(chosen) + "\n\n", "utf-8")
        texts = "".join(" ".join(row[1] for row in words_of(b)) + "\n" for b in chosen)
        (folder / f"{split}.en").write_text(texts, "utf-8")
        depths = "".join(f"{depth_of(block)}\n" for block in chosen)
        (folder / f"{split}.depth").write_text(depths, "utf-8")
    return folder


@pytest.fixture(scope="module", params=["structural", "structural_relative"])
def run(request, treebank, calque, tmp_path_factory) -> Path:
    """A run folder that was trained on the treebank, of which it remembers no words."""
    folder = tmp_path_factory.mktemp(request.param)
    recipe = RECIPE.format(folder=treebank, positions=request.param)
    (folder / "recipe.toml").write_text(recipe)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        trained = calque("train", folder / "recipe.toml", "--out", folder / "run")
    assert trained.code == 0, trained.err
    return folder / "run"


def test_what_only_the_tree_tells_is_learnt(run, treebank, calque, tmp_path):
    source, trees, depths = (treebank / f"dev.{name}" for name in ("en", "conllu", "depth"))
    expected = depths.read_text().split()
    found = calque("translate", run, source, "--trees", trees)
    assert found.code == 0, found.err
    right = [a == b for a, b in zip(found.out.split(), expected, strict=True)]
    assert sum(right) > 0.85 * len(right)

    chains = "\n\n".join(map(chained, blocks_of(trees))) + "\n\n"
    (tmp_path / "chains.conllu").write_text(chains, "utf-8")
    other = calque("translate", run, source, "--trees", tmp_path / "chains.conllu")
    right = [a == b for a, b in zip(other.out.split(), expected, strict=True)]
    assert sum(right) < 0.6 * len(right)

    typed = calque("translate", run, "--trees", trees, stdin=source.read_bytes())
    assert typed.out == found.out
    scores = calque("evaluate", run, source, depths, "--trees", trees, "--json")
    assert json.loads(scores.out)[1]["score"] > 80  # chrF2: BLEU asks for four words
    in_training = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert in_training["valid_loss"] < 0.3


def test_without_trees_every_command_says_what_is_missing(run, treebank, calque, tmp_path):
    source, depths = treebank / "dev.en", treebank / "dev.depth"
    for command in (("translate", run, source), ("evaluate", run, source, depths)):
        refused = calque(*command)
        assert refused.code == 2
        assert f"{run}: its positions are structural: give the dependency trees" in refused.err
    refused = calque("look", run, "It works .", "--out", tmp_path / "look.html")
    assert refused.code == 2
    assert "needs the dependency tree of each source (see docs/data.md)" in refused.err
    refused = calque("export", run, tmp_path / "exported", "--to", "hugging-face")
    assert refused.code == 2
    assert "model.positions" in refused.err
    with pytest.raises(CalqueError, match="no request has dependency trees"):
        load(run, "cpu")


@pytest.fixture
def served(run, treebank, tmp_path, monkeypatch) -> Loaded:
    """The run as it would be with a parser, one that knows the trees of the treebank."""
    known = {
        " ".join(row[1] for row in words_of(b)): words_of(b)
        for b in blocks_of(treebank / "dev.conllu")
    }

    def parse(lines):
        for line in lines:
            heads = [int(row[6]) - 1 for row in known[line]]
            yield [
                (row[1], place if head < 0 else head)
                for place, (row, head) in enumerate(zip(known[line], heads, strict=True))
            ]

    monkeypatch.setitem(PARSERS, "known", lambda model: parse)
    shutil.copytree(run, tmp_path / "run")
    recipe, manifest = tmp_path / "run/recipe.toml", tmp_path / "run/manifest.json"
    recipe.write_text(recipe.read_text().replace("[data]\n", '[data]\nparser = "known:trees"\n', 1))
    told = json.loads(manifest.read_text())
    told["sha256"]["recipe.toml"] = sha256(recipe.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(told))
    return load(tmp_path / "run", "cpu")


def test_with_a_parser_it_is_looked_at_and_served(served, treebank):
    lines, translator = (treebank / "dev.en").read_text("utf-8").splitlines(), served.translator
    depths = (treebank / "dev.depth").read_text().split()
    right = [a == b for a, b in zip(translator.translate(lines), depths, strict=True)]
    assert sum(right) > 0.85 * len(right)
    for line in lines[:5]:
        ((best, *_),) = translator.n_best([line])
        seen = look(translator, line)
        assert seen.translation == best
        of_tokens = torch.tensor(best.hypothesis.token_log_probs)
        torch.testing.assert_close(seen.log_probs, of_tokens, atol=1e-4, rtol=0)
        begun = look(translator, line, beginning=best.hypothesis.tokens[:1])
        assert begun.translation.text == best.text
        assert served.link([line], [best])[0].target == [best.text]
        likeliest, *others = served.alternatives(line, "", 3)
        assert likeliest.translation.text == best.text
        assert all(one.probability <= likeliest.probability for one in others)


def test_trees_that_are_not_the_lines_own_are_named(run, treebank, calque, tmp_path):
    lines = (treebank / "dev.en").read_text("utf-8").splitlines(keepends=True)
    shorter = tmp_path / "shorter.en"
    shorter.write_text("".join(lines[:-2]), "utf-8")
    refused = calque("translate", run, shorter, "--trees", treebank / "dev.conllu")
    assert refused.code == 2
    assert f"dev.conllu has 60 trees, but {shorter} has 58 lines with text" in refused.err
    shorter.write_text("".join(lines[1:]), "utf-8")
    refused = calque("translate", run, shorter, "--trees", treebank / "dev.conllu")
    assert f"do not spell {shorter}:1" in refused.err


def test_trees_are_refused_where_no_position_looks_at_them(here, treebank, calque):
    refused = calque("translate", "run", "test.en", "--trees", treebank / "dev.conllu")
    assert refused.code == 2
    assert "the positions of run look at no tree" in refused.err
