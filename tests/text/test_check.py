"""The data doctor finds what is wrong, all of it, and nothing in clean data."""

import gzip
import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from rich.cells import cell_len
from rich.console import Console

from calque.config import CalqueError
from calque.text.check import Finding, Report, Split, check, render
from calque.text.check.lengths import LengthRatios
from calque.text.check.lines import comparison_key
from calque.text.check.repeats import Fingerprints
from calque.text.check.report import KINDS
from calque.text.corpus import read_pairs
from calque.text.data import CorpusConfig
from calque.text.scripts import main_script

Pairs = Sequence[tuple[str, str]]

CLEAN: Pairs = [
    ("A dog runs across the green meadow.", "Ein Hund läuft über die grüne Wiese."),
    ("Two children play in the fountain.", "Zwei Kinder spielen im Brunnen."),
    ("The train to Köln leaves at 9:15.", "Der Zug nach Köln fährt um 9:15 Uhr ab."),
    ("She said: “No!”", "Sie sagte: »Nein!«"),
    ("1999", "1999 Jahre"),
    ("An old man sleeps on a wooden bench.", "Ein alter Mann schläft auf einer Holzbank."),
]

ODD_PAIRS = [
    ("empty_side", "source", "", "Hier fehlt die Quelle.", 1),
    ("empty_side", "target", "Here is no target.", "", 1),
    ("no_letter_or_digit", "source", "…", "Drei Punkte.", 1),
    ("no_letter_or_digit", "target", "A short line.", "@@", 1),
    ("identical_sides", None, "Jean-Luc Picard", "Jean-Luc Picard", 1),
    ("length_ratio", None, "A man walks along the river on a cold day.", "Ein Mann.", 1),
    ("length_ratio", None, "A man.", "Ein Mann geht an einem kalten Tag am Fluss entlang.", 1),
    ("other_script", "source", "Красный поезд стоит.", "Der rote Zug steht still.", 1),
    ("other_script", "target", "The red train stands still.", "Der 红色的火车停着不动。", 1),
    ("duplicate", None, *CLEAN[0], 1),
    ("other_target", None, CLEAN[0][0], "Ein Rüde rennt quer durch das Grün.", 1),
    ("other_source", None, "Some dog crosses the green meadow.", CLEAN[0][1], 1),
    ("control", "source", "One\ttab, and\x85two more\x0c.", "Ein Tabulator und mehr davon.", 3),
    ("control", "target", "A line separator is here.", "Hier ist ein\u2028Zeilentrenner.", 1),
    ("zero_width", "source", "\u200bzero width, \ufeffmark", "ohne Breite, Marke", 2),
    ("zero_width", "target", "a soft hyphen is in it", "ein weiches Trenn\xadzeichen", 1),
    ("replacement", "target", "The words are lost.", "Die W\ufffdrter sind weg.", 1),
    ("private_use", "source", "A symbol \ue001 of a font.", "Ein Symbol einer Schrift.", 1),
    ("no_break_space", "target", "Number 28 and 29 run.", "Nummer\xa028 und\xa029 laufen.", 2),
    ("not_nfc", "source", "A cafe\u0301 in the old town.", "Ein Café in der Altstadt.", 1),
    ("html_entity", "source", "Stone &amp; tile.", "Stein und Ziegel.", 1),
    ("html_entity", "target", "It costs 3 euros.", "Es kostet 3 &#8364;.", 1),
    ("outer_space", "source", " Space before it.", "Leerzeichen davor.", 1),
    ("outer_space", "target", "Space behind it.", "Leerzeichen dahinter. ", 1),
    ("double_space", "target", "Some space between.", "Viel Platz  dazwischen.", 1),
]


def corpus(folder: Path, pairs: Pairs, name: str = "train") -> CorpusConfig:
    """Two plain files that hold the pairs."""
    for suffix, lines in zip(("en", "de"), zip(*pairs, strict=True), strict=True):
        (folder / f"{name}.{suffix}").write_bytes("".join(f"{x}\n" for x in lines).encode())
    return CorpusConfig(source=str(folder / f"{name}.en"), target=str(folder / f"{name}.de"))


def plain_files(folder: Path, source: bytes, target: bytes) -> CorpusConfig:
    (folder / "a.en").write_bytes(source)
    (folder / "a.de").write_bytes(target)
    return CorpusConfig(source=str(folder / "a.en"), target=str(folder / "a.de"))


def counts(split: Split) -> dict[tuple[str, str | None], int]:
    return {(finding.kind, finding.side): finding.count for finding in split.findings}


def finding(split: Split, kind: str, side: str | None = None) -> Finding:
    return next(f for f in split.findings if (f.kind, f.side) == (kind, side))


def printed(report: Report, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    render(report, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_clean_data_has_no_findings(tmp_path: Path) -> None:
    report = check([corpus(tmp_path, CLEAN)])
    assert counts(report.splits[0]) == {}
    assert not report.refused
    assert "Nothing was found" in printed(report)


def test_sizes_are_those_of_the_files(tmp_path: Path) -> None:
    (split,) = check([corpus(tmp_path, CLEAN)]).splits
    assert split.pairs == len(CLEAN)
    for size, lines in zip((split.source, split.target), zip(*CLEAN, strict=True), strict=True):
        assert size.words == len(" ".join(lines).split())
        assert size.characters == len("".join(lines))


@pytest.mark.parametrize(("kind", "side", "source", "target", "count"), ODD_PAIRS)
def test_an_odd_pair_shows_as_just_that(
    kind: str, side: str | None, source: str, target: str, count: int, tmp_path: Path
) -> None:
    report = check([corpus(tmp_path, [*CLEAN, (source, target)])])
    assert counts(report.splits[0]) == {(kind, side): count}
    found = finding(report.splits[0], kind, side)
    file = "train.de" if side == "target" else "train.en"
    assert [e.place for e in found.examples] == [f"{tmp_path / file}:{len(CLEAN) + 1}"]
    assert not report.refused


def test_every_kind_within_one_split_has_a_test() -> None:
    of_pairs = {kind for kind, *_ in ODD_PAIRS}
    between_splits = {kind for kind in KINDS if "_in_" in kind}
    errors = {kind for kind, (severity, _) in KINDS.items() if severity == "error"}
    assert of_pairs | between_splits | errors == set(KINDS)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("A family 👨\u200d👩\u200d👧 of emoji.", "Eine Familie 👨\u200d👩\u200d👧 aus Emoji."),
        ("R&D at AT&T; nothing &else; matters.", "F&E bei AT&T; sonst &nichts; zählt."),
        ("Hi.", "Guten Tag zusammen."),
        ("!!!", "???"),
        ("12.5 % (2020)", "12,5 % (2020)"),
        ("Naïve façade, Ørsted, Łódź.", "Naive Fassade, Ørsted, Łódź."),
        ("ＡＢＣ of full width", "ＡＢＣ in voller Breite"),
    ],
)
def test_what_only_looks_odd_is_not_found(source: str, target: str, tmp_path: Path) -> None:
    assert counts(check([corpus(tmp_path, [*CLEAN, (source, target)])]).splits[0]) == {}


def test_an_excerpt_shows_what_was_found_far_into_a_line(tmp_path: Path) -> None:
    line = "word " * 40 + "here\u200b" + " word" * 40
    report = check([corpus(tmp_path, [*CLEAN, (line, "Wort " * 80 + "Ende")])])
    (example,) = finding(report.splits[0], "zero_width", "source").examples
    assert "here<U+200B>" in example.text
    assert len(example.text) < 80


@pytest.mark.parametrize(
    ("text", "excerpt"), [(" a b", "␣a b"), ("a b  ", "a b␣␣"), ("a  b c", "a␣␣b c")]
)
def test_an_excerpt_shows_stray_spaces(text: str, excerpt: str, tmp_path: Path) -> None:
    (split,) = check([corpus(tmp_path, [*CLEAN, ("One more.", text)])]).splits
    assert split.findings[0].examples[0].text == excerpt


# What training refuses


def test_unequal_files_are_read_to_the_end(tmp_path: Path) -> None:
    config = plain_files(tmp_path, b"one\ntwo\nthree\nfour\n", b"eins\n\xffzwei\n")
    report = check([config])
    assert counts(report.splits[0]) == {("unequal_lines", None): 2, ("not_utf8", "target"): 1}
    text = finding(report.splits[0], "unequal_lines").examples[0].text
    assert "a.en has 4 lines" in text
    assert text.endswith("a.de 2")


def test_bytes_that_are_not_utf8_are_located(tmp_path: Path) -> None:
    source = b"fine\nalso fine\n" + "grün".encode("latin-1") + b"\nfine again\n"
    target = "gut\nauch gut\ngrün\n".encode() + b"b\xc3\n"
    report = check([plain_files(tmp_path, source, target)])
    (in_source,) = finding(report.splits[0], "not_utf8", "source").examples
    assert in_source.place == f"{tmp_path / 'a.en'}:3"
    assert "byte 2 of the line" in in_source.text
    assert "0xfc" in in_source.text
    (in_target,) = finding(report.splits[0], "not_utf8", "target").examples
    assert in_target.place == f"{tmp_path / 'a.de'}:4"
    assert report.splits[0].pairs == 2


def test_only_line_feeds_end_lines(tmp_path: Path) -> None:
    source = "a\x85b\u2028c\x0cd\re\r\nsecond\r\n".encode()
    (split,) = check([plain_files(tmp_path, source, b"a b c d e\nzweite\n")]).splits
    assert split.pairs == 2
    assert counts(split) == {("control", "source"): 4}


@pytest.mark.parametrize(
    ("source", "target", "kind"),
    [
        (b"one\ntwo\n", b"eins\n", "unequal_lines"),
        (b"one\n\xe9\n", b"eins\nzwei\n", "not_utf8"),
        (b"one\n", None, "unreadable"),
    ],
)
def test_what_is_refused_here_cannot_be_read_for_training(
    source: bytes, target: bytes | None, kind: str, tmp_path: Path
) -> None:
    config = plain_files(tmp_path, source, target or b"")
    if target is None:
        Path(str(config.target)).unlink()
    report = check([config])
    assert report.refused
    assert kind in {f.kind for f in report.splits[0].findings if f.severity == "error"}
    with pytest.raises(CalqueError):
        list(read_pairs(config, Counter()))


@pytest.mark.parametrize(("source", "target"), [(b"", b""), (b"a\n \n", b"\nb\n")])
def test_a_split_without_a_usable_pair_is_refused(
    source: bytes, target: bytes, tmp_path: Path
) -> None:
    report = check([plain_files(tmp_path, source, target)])
    assert report.refused
    assert ("no_pairs", None) in counts(report.splits[0])


def test_different_numbers_of_files_are_refused(tmp_path: Path) -> None:
    config = plain_files(tmp_path, b"one\n", b"eins\n")
    assert isinstance(config.source, str)
    report = check([CorpusConfig(source=(config.source, config.source), target=config.target)])
    assert ("unreadable", None) in counts(report.splits[0])


def test_an_unreadable_corpus_does_not_hide_the_others(tmp_path: Path) -> None:
    missing = CorpusConfig(source="a", target="b", file=str(tmp_path / "missing.tsv"))
    report = check([missing, corpus(tmp_path, CLEAN)])
    assert counts(report.splits[0]) == {("unreadable", None): 1}
    assert report.splits[0].pairs == len(CLEAN)
    assert "missing.tsv" in finding(report.splits[0], "unreadable").examples[0].text


def test_a_compressed_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress("\n".join(source for source, _ in CLEAN).encode())
    (tmp_path / "cut.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut.de.gz").write_bytes(whole)
    config = CorpusConfig(source=str(tmp_path / "cut.gz"), target=str(tmp_path / "cut.de.gz"))
    assert ("unreadable", None) in counts(check([config]).splits[0])


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    odd = [(source, target) for _, _, source, target, _ in ODD_PAIRS]
    config = corpus(tmp_path, [*CLEAN, *CLEAN, *CLEAN, *odd])
    with Path(str(config.source)).open("ab") as file:
        file.write(b"\xff\xfe\none line more\n")
    report = check([config])
    expected = {(kind, side) for kind, side, *_ in ODD_PAIRS}
    expected |= {("not_utf8", "source"), ("unequal_lines", None)}
    assert expected <= set(counts(report.splits[0]))
    assert all(len(f.examples) <= 3 for f in report.splits[0].findings)
    assert finding(report.splits[0], "duplicate").count == 2 * len(CLEAN) + 1


# Files of pairs


def test_a_file_of_pairs_is_not_checked_as_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.tmx"
    path.write_text("<tmx/>\n")
    for config in (
        CorpusConfig(source=str(path), target=str(path)),
        CorpusConfig(source=str(tmp_path / "*.tmx"), target=str(tmp_path / "train.de")),
    ):
        report = check([corpus(tmp_path, CLEAN), config])
        assert counts(report.splits[0]) == {("unreadable", None): 1}
        assert "file of pairs" in finding(report.splits[0], "unreadable").examples[0].text


@pytest.mark.parametrize("suffix", [".tsv.gz", ".en.gz"])
def test_a_broken_file_does_not_hide_the_others_of_its_glob(suffix: str, tmp_path: Path) -> None:
    for number in range(3):
        rows = ["en\tde", *map("\t".join, CLEAN)]
        for name, lines in zip(("tsv", "en", "de"), (rows, *zip(*CLEAN, strict=True)), strict=True):
            content = gzip.compress("".join(f"{line}\n" for line in lines).encode())
            (tmp_path / f"{number}.{name}.gz").write_bytes(content)
    broken = tmp_path / f"1{suffix}"
    broken.write_bytes(broken.read_bytes()[:-9])
    glob = str(tmp_path / f"*{suffix}")
    if suffix == ".tsv.gz":
        config = CorpusConfig(file=glob, source="en", target="de")
    else:
        config = CorpusConfig(source=glob, target=str(tmp_path / "*.de.gz"))
    (split,) = check([config]).splits
    assert finding(split, "unreadable").count == 1
    assert str(broken) in finding(split, "unreadable").examples[0].text
    assert split.pairs >= 2 * len(CLEAN)
    assert finding(split, "duplicate").count >= len(CLEAN)


def test_what_a_reader_leaves_out_is_told_by_reason(tmp_path: Path) -> None:
    rows = [{"en": source, "de": target} for source, target in CLEAN]
    rows += [{"en": "no target", "de": None}] * 2
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    report = check([CorpusConfig(source="en", target="de", file=str(path))])
    (split,) = report.splits
    assert split.pairs == len(CLEAN)
    assert sum(split.left_out.values()) == 2
    (reason,) = split.left_out
    assert reason in printed(report)
    assert not report.refused


def test_examples_from_a_file_of_pairs_name_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    rows = [("de", "en"), *((target, source) for source, target in CLEAN), ("@@", "What?")]
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    (split,) = check([CorpusConfig(source="en", target="de", file=str(path))]).splits
    assert counts(split) == {("no_letter_or_digit", "target"): 1}
    (example,) = split.findings[0].examples
    assert example.place == f"{path}:{len(rows)}"


# Repeats, overlap, lengths, scripts

short_texts = st.text(alphabet="ab", max_size=2)


@given(st.lists(st.tuples(short_texts, short_texts), max_size=30))
def test_repeats_are_those_of_a_slow_search(pairs: list[tuple[str, str]]) -> None:
    prints = Fingerprints()
    for pair in pairs:
        prints.add(*pair, *pair)
    expected: dict[str, list[int]] = {"duplicate": [], "other_target": [], "other_source": []}
    for i, (source, target) in enumerate(pairs):
        before = pairs[:i]
        if (source, target) in before:
            expected["duplicate"].append(i)
            continue
        if any(s == source for s, _ in before):
            expected["other_target"].append(i)
        if any(t == target for _, t in before):
            expected["other_source"].append(i)
    assert {kind: found.tolist() for kind, found in prints.repeats().items()} == expected


def test_overlap_is_found_beneath_case_punctuation_and_width(tmp_path: Path) -> None:
    shouted = [(CLEAN[0][0].upper().replace(" ", "  "), CLEAN[0][1].upper().rstrip("."))]
    retold = [("two children - play in the Ｆountain", "Kinder am Brunnen.")]
    fresh = [("Nobody has seen this before.", "Niemand hat das je gesehen.")]
    train = corpus(tmp_path, CLEAN)
    valid = corpus(tmp_path, [*fresh, *shouted, *retold], "valid")
    test = corpus(tmp_path, [*fresh, *retold, ("?!", "!?")], "test")
    splits = check([train], [valid], [test]).splits
    overlaps = [{k: n for (k, _), n in counts(s).items() if "_in_" in k} for s in splits]
    assert overlaps[0] == {}
    assert overlaps[1] == {"pair_in_train": 1, "source_in_train": 2}
    assert overlaps[2] == {"source_in_train": 1, "pair_in_valid": 2, "source_in_valid": 2}
    (example,) = finding(splits[1], "pair_in_train").examples
    assert example.place.endswith("valid.en:2")


def test_texts_without_letters_do_not_overlap(tmp_path: Path) -> None:
    train = corpus(tmp_path, [*CLEAN, ("?!", "!?")])
    valid = corpus(tmp_path, [("...", "…"), ("Something new.", "Etwas Neues.")], "valid")
    assert counts(check([train], [valid]).splits[1]) == {}


@given(st.text())
def test_a_comparison_key_is_only_letters_and_digits(text: str) -> None:
    key = comparison_key(text)
    assert all(character.isalnum() for character in key)
    assert comparison_key(f"«{text}!» ") == key


@given(st.floats(0.2, 5), st.randoms(use_true_random=False))
def test_a_ratio_is_odd_only_beside_the_usual_one(usual: float, random) -> None:
    ratios = LengthRatios()
    for _ in range(50):
        length = random.randint(100, 200)
        ratios.add("s" * length, "t" * round(length * usual * random.uniform(0.8, 1.25)))
    ratios.add("s" * 200, "t" * round(200 * usual * 4))
    ratios.add("s" * 200, "t" * round(200 * usual / 8))
    ratios.add("s", "t" * 19)
    assert ratios.outliers().tolist() == [51, 50]


def test_there_are_no_outliers_among_no_pairs() -> None:
    assert len(LengthRatios().outliers()) == 0


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Tom’s café", "LATIN"),
        ("東京タワーへいく", "CJK"),
        ("서울에 갑니다", "HANGUL"),
        ("Привет, Tom", "CYRILLIC"),
        ("สวัสดี", "THAI"),
        ("ｆｕｌｌ", "LATIN"),
        ("abвг", None),
        ("3,14 – 2021!", None),
        ("", None),
    ],
)
def test_the_main_script_has_most_of_the_letters(text: str, script: str | None) -> None:
    assert main_script(text) == script


def test_scripts_that_a_side_mixes_are_its_own(tmp_path: Path) -> None:
    serbian = [f"Реченица број {i} је овде." for i in range(5)]
    serbian += [f"Rečenica broj {i} je ovde." for i in range(5)]
    pairs = [(f"Sentence number {i} is here.", text) for i, text in enumerate(serbian)]
    assert counts(check([corpus(tmp_path, pairs)]).splits[0]) == {}


# The report


@pytest.fixture
def odd_report(tmp_path: Path) -> Report:
    odd = [(source, target) for _, _, source, target, _ in ODD_PAIRS]
    odd.append(("[bold]brackets[/] :smile:\x1b[31m\t", "[/nonsense]\x1b[31m"))
    train, valid = corpus(tmp_path, [*CLEAN, *odd]), corpus(tmp_path, CLEAN, "valid")
    return check([train], [valid])


def test_a_report_survives_json(odd_report: Report) -> None:
    text = json.dumps(odd_report.to_json())
    assert TypeAdapter(Report).validate_json(text) == odd_report
    assert json.loads(text)["refused"] is odd_report.refused


@pytest.mark.parametrize("width", [60, 100, 200])
def test_a_printed_report_is_whole_and_printable(odd_report: Report, width: int) -> None:
    text = printed(odd_report, width)
    assert all(character.isprintable() or character == "\n" for character in text)
    assert max(map(cell_len, text.split("\n"))) <= width
    if width == 200:
        for split in odd_report.splits:
            assert all(KINDS[f.kind][1] in text for f in split.findings)
        assert "[bold]brackets[/] :smile:<U+001B>[31m" in text
        assert "train.de:8" in text


def test_a_refusal_is_printed(tmp_path: Path) -> None:
    assert "would refuse" in printed(check([plain_files(tmp_path, b"one\n", b"")]))


# Real corpora, against what their READMEs tell


def check_folder(folder: Path, target: str, names: Sequence[str]) -> Report:
    sides = [(str(folder / f"{name}.en"), str(folder / f"{name}.{target}")) for name in names]
    return check(*([CorpusConfig(source=source, target=target)] for source, target in sides))


def test_multi30k_german(shared_data: Path) -> None:
    report = check_folder(shared_data / "multi30k", "de", ["train", "val", "test_2016_flickr"])
    train, valid, test = report.splits
    assert not report.refused
    assert [split.pairs for split in report.splits] == [29_000, 1_014, 1_000]
    assert [split.source.words for split in report.splits] == [345_020, 12_167, 11_877]
    assert [split.target.words for split in report.splits] == [322_383, 11_568, 10_905]
    placeholders = finding(train, "no_letter_or_digit", "target")
    assert [e.place.rpartition(":")[2] for e in placeholders.examples] == ["16510", "16664"]
    found = counts(train)
    assert found["no_letter_or_digit", "target"] == 2
    assert found["no_break_space", "target"] == 47
    assert found["html_entity", "source"] == 16
    assert found["html_entity", "target"] == 1
    assert found["control", "target"] == 1
    assert finding(train, "control", "target").examples[0].place.endswith("train.de:7366")
    assert found["outer_space", "target"] == 40
    assert found["double_space", "target"] == 44
    assert found["duplicate", None] + found["other_target", None] == 9
    assert found["duplicate", None] + found["other_source", None] == 25
    assert {kind for kind, _ in found}.isdisjoint({"empty_side", "not_nfc", "other_script"})
    assert counts(valid)["source_in_train", None] == 1
    assert counts(valid)["no_break_space", "target"] == 1
    assert ("source_in_train", None) not in counts(test)


def test_tatoeba_chinese(shared_data: Path) -> None:
    report = check_folder(shared_data / "tatoeba-en-zh", "zh", ["train", "val", "test"])
    train, valid, test = report.splits
    assert counts(train)["other_target", None] == 26_811 - 25_481
    assert counts(train)["other_source", None] == 3_332
    assert ("duplicate", None) not in counts(train)
    absent = {"control", "zero_width", "not_nfc", "pair_in_train", "source_in_train", "duplicate"}
    for split in (train, valid, test):
        assert absent.isdisjoint(kind for kind, _ in counts(split))
    example = finding(train, "length_ratio").examples[0]
    assert "Someone is always on duty." in example.text
