"""Every format gives the pairs that stand in it, and says what it refuses and where."""

import gzip
import json
import lzma
import os
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from calque.config import CalqueError
from calque.text.corpus import READERS, Pair, read_pairs
from calque.text.data import CorpusConfig
from calque.text.files import text_lines

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
}
TEXTS = [
    ("A dog runs.", "Ein Hund läuft."),
    ("one\u2028line\u0085still", "eine Zeile"),
    ('"quoted", she said', "„zitiert“; sagte sie"),
    ("<b> & co", ""),
    ("你好", "tail \u2029"),
]
XLIFF_1 = (
    '<xliff version="1.2" xmlns="urn:oasis:names:tc:xliff:document:1.2">'
    '<file source-language="en-US" target-language="DE" original="a" datatype="plaintext"><body>'
    "%s</body></file></xliff>"
)
XLIFF_2 = (
    '<xliff version="2.0" xmlns="urn:oasis:names:tc:xliff:document:2.0" srcLang="en" '
    'trgLang="de-AT">'
    '<file id="f"><unit id="u">%s</unit></file></xliff>'
)
PO_HEADER = 'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=%s\\n"\n\n'


def escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def tmx(units: str) -> str:
    return f'<tmx version="1.4"><header srclang="en"/><body>{units}</body></tmx>'


def unit(source: str, target: str) -> str:
    return (
        f'<tu><tuv xml:lang="en"><seg>{source}</seg></tuv>\n'
        f'<tuv xml:lang="de"><seg>{target}</seg></tuv></tu>\n'
    )


def as_tsv(texts: list[tuple[str, str]]) -> bytes:
    return "\n".join(["id\ten\tde", *(f"7\t{en}\t{de}" for en, de in texts)]).encode()


def as_csv(texts: list[tuple[str, str]]) -> bytes:
    quoted = ['7,"{}","{}"'.format(*(t.replace('"', '""') for t in texts)) for texts in texts]
    return "\r\n".join(["id,en,de", *quoted]).encode()


def as_jsonl(texts: list[tuple[str, str]]) -> bytes:
    return "\n".join(
        json.dumps({"de": de, "id": 7, "en": en}, ensure_ascii=False) for en, de in texts
    ).encode()


def as_parquet(texts: list[tuple[str, str]]) -> bytes:
    sources, targets = zip(*texts, strict=True)
    sink = pa.BufferOutputStream()
    table = pa.table(
        {"id": [7] * len(texts), "en": sources, "de": pa.array(targets).dictionary_encode()}
    )
    pq.write_table(table, sink, row_group_size=2)
    return sink.getvalue().to_pybytes()


def as_tmx(texts: list[tuple[str, str]]) -> bytes:
    return tmx("".join(unit(escape(en), escape(de)) for en, de in texts)).encode()


def as_xliff(texts: list[tuple[str, str]]) -> bytes:
    units = "".join(
        f"<group><trans-unit><source>{escape(en)}</source><target>{escape(de)}</target>"
        "</trans-unit></group>"
        for en, de in texts
    )
    return (XLIFF_1 % units).encode()


def as_xliff_2(texts: list[tuple[str, str]]) -> bytes:
    segments = "".join(
        f"<segment><source>{escape(en)}</source><target>{escape(de)}</target></segment>"
        "<ignorable><source> </source></ignorable>"
        for en, de in texts
    )
    return (XLIFF_2 % segments).encode()


def as_po(texts: list[tuple[str, str]]) -> bytes:
    entries = [
        'msgid "{}"\nmsgstr "{}"\n'.format(*(t.replace('"', '\\"') for t in texts))
        for texts in texts
    ]
    return (PO_HEADER % "UTF-8" + "\n".join(entries)).encode()


WRITERS = {
    ".csv": as_csv,
    ".jsonl": as_jsonl,
    ".parquet": as_parquet,
    ".po": as_po,
    ".tmx": as_tmx,
    ".tsv": as_tsv,
    ".xlf": as_xliff_2,
    ".xliff": as_xliff,
}


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path, source: str = "en", target: str = "de") -> tuple[list[Pair], Counter[str]]:
    left_out: Counter[str] = Counter()
    corpus = CorpusConfig(file=str(path), source=source, target=target)
    return list(read_pairs(corpus, left_out)), left_out


def texts(path: Path, source: str = "en", target: str = "de") -> list[tuple[str, str]]:
    return [(pair.source, pair.target) for pair in read(path, source, target)[0]]


def refusal(path: Path, source: str = "en", target: str = "de") -> str:
    with pytest.raises(CalqueError) as caught:
        read(path, source, target)
    return str(caught.value)


# Every format


def test_every_format_is_tested():
    assert set(WRITERS) == set(READERS)


@pytest.mark.parametrize(
    ("suffix", "compression"),
    # Parquet compresses within.
    [(s, c) for s in WRITERS for c in COMPRESS if not (s == ".parquet" and c)],
)
def test_a_file_of_pairs_gives_its_pairs(tmp_path: Path, suffix: str, compression: str):
    # An empty translation is an untranslated message in PO; nowhere else.
    expected = [pair for pair in TEXTS if suffix != ".po" or all(pair)]
    path = tmp_path / f"pairs{suffix}{compression}"
    pairs, left_out = read(write(path, COMPRESS[compression](WRITERS[suffix](expected))))
    assert [(pair.source, pair.target) for pair in pairs] == expected
    assert {pair.file for pair in pairs} == {str(path)}
    assert not left_out


def test_several_files_of_pairs_come_one_after_the_other(tmp_path: Path):
    write(tmp_path / "b.tsv", as_tsv(TEXTS[:1]))
    write(tmp_path / "a.jsonl", as_jsonl(TEXTS[1:2]))
    corpus = CorpusConfig(
        file=(str(tmp_path / "*.tsv"), str(tmp_path / "a.*")), source="en", target="de"
    )
    assert [tuple(pair)[:2] for pair in read_pairs(corpus, Counter())] == TEXTS[:2]


def test_an_unknown_suffix_lists_the_choices_before_any_reading(tmp_path: Path):
    good, bad = write(tmp_path / "a.tsv", as_tsv(TEXTS)), write(tmp_path / "b.docx.gz", b"")
    pairs = read_pairs(
        CorpusConfig(file=(str(good), str(bad)), source="en", target="de"), Counter()
    )
    with pytest.raises(CalqueError, match=r"b\.docx\.gz.*'\.docx'.*\.tmx"):
        next(pairs)


def test_a_file_of_pairs_wants_one_name_per_side(tmp_path: Path):
    path = write(tmp_path / "a.tsv", as_tsv(TEXTS))
    corpus = CorpusConfig(file=str(path), source=("en", "fr"), target="de")
    with pytest.raises(CalqueError, match=r"source.*\('en', 'fr'\)"):
        list(read_pairs(corpus, Counter()))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".tsv"])
def test_memory_is_bounded(tmp_path: Path, suffix: str):
    path = write(tmp_path / f"large{suffix}", WRITERS[suffix]([("x" * 500, "y" * 500)] * 4_000))
    pairs = read_pairs(CorpusConfig(file=str(path), source="en", target="de"), Counter())
    next(pairs)
    tracemalloc.start()
    try:
        assert sum(1 for _ in pairs) == 3_999
        assert tracemalloc.get_traced_memory()[1] < path.stat().st_size / 8
    finally:
        tracemalloc.stop()


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="libxml2's own memory is read from /proc")
@pytest.mark.parametrize("suffix", [".tmx", ".xliff", ".xlf"])
def test_memory_is_bounded_in_libxml2(tmp_path: Path, suffix: str):
    count = 40_000
    path = write(tmp_path / f"large{suffix}", WRITERS[suffix]([("a b", "c d")] * count))
    pairs = read_pairs(CorpusConfig(file=str(path), source="en", target="de"), Counter())
    for _ in range(count // 20):
        next(pairs)
    before = resident_bytes()
    for _ in range(count // 20, count):
        next(pairs)
    # A tree that keeps its elements would be several times the size of the file.
    assert resident_bytes() - before < path.stat().st_size / 2


# Plain text


def test_two_plain_files_belong_together_line_by_line(tmp_path: Path):
    odd = ["a\tb\u2028c", "\f", "", "d\re"]
    source = write(tmp_path / "a.en", "\n".join(odd) + "\n")
    target = write(tmp_path / "a.de.gz", gzip.compress(b"1\r\n2\r\n3\r\n4"))
    corpus = CorpusConfig(source=str(source), target=str(target))
    assert list(read_pairs(corpus, Counter())) == [
        Pair(text, str(number), str(source), number) for number, text in enumerate(odd, start=1)
    ]


def test_plain_files_are_joined_file_by_file(tmp_path: Path):
    for name, content in [("1.en", "a\n"), ("2.en", "b\nc"), ("x.de", "A"), ("y.de", "B\nC\n")]:
        write(tmp_path / name, content)
    corpus = CorpusConfig(
        source=str(tmp_path / "*.en"), target=(str(tmp_path / "x.de"), str(tmp_path / "y.de"))
    )
    pairs = list(read_pairs(corpus, Counter()))
    assert [(pair.source, pair.target) for pair in pairs] == [("a", "A"), ("b", "B"), ("c", "C")]
    assert [(Path(pair.file).name, pair.line) for pair in pairs] == [
        ("1.en", 1),
        ("2.en", 1),
        ("2.en", 2),
    ]


@pytest.mark.parametrize(("sources", "targets"), [(3, 5), (5, 3), (0, 2), (2, 0)])
def test_unequal_line_counts_are_an_error_with_both(tmp_path: Path, sources: int, targets: int):
    source = write(tmp_path / "a.en", "x\n" * sources)
    target = write(tmp_path / "a.de", "x\n" * targets)
    pairs = read_pairs(CorpusConfig(source=str(source), target=str(target)), Counter())
    for _ in range(min(sources, targets)):
        next(pairs)
    with pytest.raises(CalqueError) as caught:
        next(pairs)
    assert f"{source} has {sources} lines" in str(caught.value)
    assert f"{target} has {targets}" in str(caught.value)
    opened = Path("/proc/self/fd")  # of Linux
    files = [file.resolve() for file in opened.iterdir()] if opened.exists() else []
    assert not {source, target} & set(files)


def test_equal_totals_do_not_hide_unequal_files(tmp_path: Path):
    for name, count in [("1.en", 1), ("2.en", 3), ("1.de", 2), ("2.de", 2)]:
        write(tmp_path / name, "x\n" * count)
    corpus = CorpusConfig(source=str(tmp_path / "*.en"), target=str(tmp_path / "*.de"))
    with pytest.raises(CalqueError, match="1 lines"):
        list(read_pairs(corpus, Counter()))


def test_unequal_numbers_of_files_are_an_error(tmp_path: Path):
    for name in ("1.en", "2.en", "1.de"):
        write(tmp_path / name, "x\n")
    corpus = CorpusConfig(source=str(tmp_path / "*.en"), target=str(tmp_path / "*.de"))
    with pytest.raises(CalqueError, match="2 source but 1 target"):
        list(read_pairs(corpus, Counter()))


def test_a_plain_corpus_streams(tmp_path: Path):
    content = b"A man rides a bicycle.\n" * 30_000
    source, target = write(tmp_path / "a.en", content), write(tmp_path / "a.de", content + b"\xff")
    pairs = read_pairs(CorpusConfig(source=str(source), target=str(target)), Counter())
    tracemalloc.start()
    try:
        for _ in range(29_999):
            next(pairs)
        assert tracemalloc.get_traced_memory()[1] < len(content) / 4
    finally:
        tracemalloc.stop()
    next(pairs)
    with pytest.raises(CalqueError, match=r"a\.de:30001: not UTF-8 at byte 0"):
        next(pairs)


def test_multi30k_has_its_29_000_pairs(shared_data: Path):
    folder = shared_data / "multi30k"
    corpus = CorpusConfig(source=str(folder / "train.en"), target=str(folder / "train.de"))
    pairs = list(read_pairs(corpus, Counter()))
    assert len(pairs) == 29_000
    assert pairs[0].source.startswith("Two young, White males are outside")
    assert "\t" in pairs[7365].target
    assert pairs[7365].line == 7366


def test_tatoeba_attribution_is_a_tsv(shared_data: Path):
    path = shared_data / "tatoeba-en-zh" / "attribution.tsv.gz"
    pairs, _ = read(path, "en_id", "zh_id")
    assert len(pairs) == sum(1 for _ in text_lines(path)) - 1
    assert all(pair.source.isdigit() and pair.target.isdigit() for pair in pairs)


# Tables


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".tsv"])
def test_a_missing_column_names_those_there_are(tmp_path: Path, suffix: str):
    path = write(tmp_path / f"a{suffix}", WRITERS[suffix](TEXTS))
    message = refusal(path, "en", "fr")
    assert str(path) in message
    assert "'fr'" in message
    assert "id" in message
    assert "en" in message


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("a.tsv", "en\tde\na\tb\nonly one\n", 3),
        ("a.tsv", "en\tde\na\tb\tc\n", 2),
        ("a.csv", 'en,de\n"a\nb",c\nonly one\n', 4),
        ("a.csv", 'en,de\na,b\n"never closed,c\nd,e\n', 3),
        ("a.csv", 'en,de\n"a"b,c\n', 2),
        ("a.jsonl", '{"en": "a", "de": "b"}\n{"en": "a"', 2),
        ("a.jsonl", "[1]\n", 1),
        ("a.jsonl", "[" * 100_000, 1),
        ("a.jsonl", '{"en": "a", "de": 5}', 1),
        ("a.jsonl", '{"en": "a", "de": "\\ud800"}', 1),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, name: str, content: str, line: int):
    path = write(tmp_path / name, content)
    assert refusal(path).startswith(f"{path}:{line}: ")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".tsv"])
def test_a_bad_byte_in_a_table_is_named(tmp_path: Path, suffix: str):
    content = WRITERS[suffix]([("a", "b"), ("c", "SPOILT")]).replace(b"SPOILT", b"\xe4")
    line = content.count(b"\n") + 1
    path = write(tmp_path / f"a{suffix}", content)
    assert refusal(path).startswith(f"{path}:{line}: not UTF-8 at byte ")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".tsv"])
def test_blank_lines_of_a_table_are_counted(tmp_path: Path, suffix: str):
    first, *rest = WRITERS[suffix]([("a", "b"), ("c", "d")]).splitlines(keepends=True)
    content = first + b"\n" + b"".join(rest).rstrip() + b"\n\n\n"
    pairs, left_out = read(write(tmp_path / f"a{suffix}", content))
    assert [pair.source for pair in pairs] == ["a", "c"]
    assert left_out == {"blank lines": 3}


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_two_columns_of_one_name_are_refused(tmp_path: Path, suffix: str):
    separator = "," if suffix == ".csv" else "\t"
    content = "\n".join(separator.join(row) for row in (["en", "de", "en"], ["a", "b", "c"]))
    assert "2 columns are called 'en'" in refusal(write(tmp_path / f"a{suffix}", content))


def test_two_parquet_columns_of_one_name_are_refused(tmp_path: Path):
    table = pa.Table.from_arrays([pa.array(["x"])] * 3, names=["en", "de", "en"])
    pq.write_table(table, tmp_path / "a.parquet")
    assert "2 columns are called 'en'" in refusal(tmp_path / "a.parquet")


def test_parquet_in_another_compression_is_refused(tmp_path: Path):
    path = write(tmp_path / "a.parquet.gz", gzip.compress(as_parquet(TEXTS)))
    assert "decompress the file" in refusal(path)


def test_a_csv_field_may_be_long(tmp_path: Path):
    long = "x" * 200_000
    assert texts(write(tmp_path / "a.csv", as_csv([(long, "y")]))) == [(long, "y")]


def test_a_csv_field_may_hold_line_breaks(tmp_path: Path):
    path = write(tmp_path / "a.csv", '\ufeffen,de\r\n"a\r\nb\nc","d ""e"""\r\nf,g\r\n')
    pairs, _ = read(path)
    assert [tuple(pair)[:2] for pair in pairs] == [("a b c", 'd "e"'), ("f", "g")]
    assert [pair.line for pair in pairs] == [2, 5]


def test_a_tsv_has_no_quoting(tmp_path: Path):
    path = write(tmp_path / "a.tsv", 'en\tde\n"a\tb"\n\t\n')
    assert texts(path) == [('"a', 'b"'), ("", "")]


def test_nulls_are_left_out_and_counted(tmp_path: Path):
    rows = [{"en": "a", "de": None}, {"en": "b", "de": "c\nd"}, {"en": None, "de": None}]
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for file in (path, tmp_path / "a.parquet"):
        pairs, left_out = read(file)
        assert pairs == [Pair("b", "c d", str(file), 2)]
        assert left_out.total() == 2


def test_parquet_keeps_its_rows_over_groups_and_batches(tmp_path: Path):
    numbers = [str(number) for number in range(10_000)]
    path = tmp_path / "a.parquet"
    table = pa.table({"en": pa.array(numbers, pa.large_string()), "de": numbers[::-1]})
    pq.write_table(table, path, row_group_size=3_000)
    pairs, _ = read(path)
    assert [pair.source for pair in pairs] == numbers
    assert [pair.target for pair in pairs] == numbers[::-1]
    assert [pair.line for pair in pairs] == list(range(1, 10_001))


def test_parquet_that_cannot_be_used_is_named(tmp_path: Path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"en": ["a"], "de": [5]}), path)
    assert "'de' holds int64, not text" in refusal(path)
    invalid = pa.array([b"\xff"]).view(pa.string())
    pq.write_table(pa.table({"en": ["a"], "de": invalid}), path)
    assert "not UTF-8" in refusal(path)
    assert "not a Parquet file" in refusal(write(path, path.read_bytes()[:-20]))
    assert "not a Parquet file" in refusal(write(path, b""))


# TMX


def test_tmx_text_crosses_inline_codes(tmp_path: Path):
    source = (
        'Press <bpt i="1">&lt;b&gt;<sub>note</sub></bpt>Save<ept i="1">&lt;/b&gt;</ept> '
        '<hi type="x">and <hi>leave</hi></hi>, <ph>{0}</ph>twice<it pos="begin">[i]</it> or'
        "<!-- a comment --> <ut>{\\i}</ut>thrice<?pi x?>."
    )
    path = write(tmp_path / "a.tmx", tmx(unit(source, "Sichern <![CDATA[<&>]]>\n  und\r\ngehen")))
    assert texts(path) == [("Press Save and leave, twice or thrice.", "Sichern <&>   und gehen")]


def test_tmx_language_codes(tmp_path: Path):
    def variants(*codes: str) -> str:
        return "".join(f'<tuv xml:lang="{code}"><seg>{code}</seg></tuv>' for code in codes)

    units = [("EN-us", "en", "de"), ("en_GB", "DE-at", "fr"), ("eng", "de"), ("en-us", "fr"), ()]
    body = "".join(f"<tu>{variants(*codes)}</tu>" for codes in units)
    old = '<tu><tuv lang="EN"><seg>old</seg></tuv><tuv lang="DE"><seg>alt</seg></tuv></tu>'
    path = write(tmp_path / "a.tmx", tmx(body + old))
    pairs, left_out = read(path)
    assert [tuple(pair)[:2] for pair in pairs] == [("en", "de"), ("en_GB", "DE-at"), ("old", "alt")]
    missing = {"TMX units without 'en'": 2, "TMX units without 'de'": 1}
    assert left_out == {**missing, "further TMX variants in 'en'": 1}
    assert texts(path, "en-US", "fr") == [("en-us", "fr")]


def test_of_several_tmx_variants_in_a_language_the_others_are_counted(tmp_path: Path):
    def variants(**texts: list[str]) -> str:
        found = [(code, text) for code, of_code in texts.items() for text in of_code]
        return "".join(f'<tuv xml:lang="{c}"><seg>{text}</seg></tuv>' for c, text in found)

    several = variants(en_GB=["a"], en_US=["b"], de=["A", "B", "C"], fr=["x", "y"])
    units = [several, variants(en=["d", "e"]), variants(en=["f"], de=["F"])]
    path = write(tmp_path / "a.tmx", tmx("".join(f"<tu>{unit}</tu>" for unit in units)))
    pairs, left_out = read(path)
    assert [(pair.source, pair.target) for pair in pairs] == [("a", "A"), ("f", "F")]
    assert left_out == {
        "further TMX variants in 'en'": 1,
        "further TMX variants in 'de'": 2,
        "TMX units without 'de'": 1,
    }


def test_tmx_line_is_the_units(tmp_path: Path):
    path = write(tmp_path / "a.tmx", tmx("\n" + unit("a", "b") + "\n\n" + unit("c", "d")))
    assert [pair.line for pair in read(path)[0]] == [2, 6]


@pytest.mark.parametrize("encoding", ["utf-16", "iso-8859-1", "utf-8-sig"])
def test_a_declared_encoding_is_honoured(tmp_path: Path, encoding: str):
    declared = encoding.removesuffix("-sig")
    content = f'<?xml version="1.0" encoding="{declared}"?>{tmx(unit("a", "schön"))}'
    path = write(tmp_path / "a.tmx", content.encode(encoding))
    assert texts(path) == [("a", "schön")]


def test_an_external_entity_is_never_read(tmp_path: Path):
    secret = write(tmp_path / "secret.txt", "SECRET")
    doctype = f'<!DOCTYPE tmx [<!ENTITY x SYSTEM "{secret.as_uri()}">]>\n'
    message = refusal(write(tmp_path / "a.tmx", doctype + tmx(unit("a &x; b", "c"))))
    assert message.startswith(f"{tmp_path / 'a.tmx'}:2: ")
    assert "&x;" in message
    assert "SECRET" not in message


def test_an_external_dtd_is_never_read(tmp_path: Path):
    # Were it read, it would be refused: it is not a DTD.
    dtd = write(tmp_path / "tmx14.dtd", "<<<")
    for reference in (f'SYSTEM "{dtd.as_uri()}"', f'[<!ENTITY % p SYSTEM "{dtd.as_uri()}"> %p;]'):
        path = write(tmp_path / "a.tmx", f"<!DOCTYPE tmx {reference}>" + tmx(unit("a", "b")))
        assert texts(path) == [("a", "b")]


@pytest.mark.parametrize("place", ["text", "attribute"])
def test_a_billion_laughs_are_refused(tmp_path: Path, place: str):
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    body = unit("&l9;", "a") if place == "text" else '<tu tuid="&l9;"></tu>'
    content = f'<!DOCTYPE tmx [<!ENTITY l0 "ha">{laughs}]>{tmx(body)}'
    path = write(tmp_path / "a.tmx", content)
    assert refusal(path).startswith(f"{path}:1: ")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (tmx("\n<tu>\n</body>"), 3),
        (tmx("\n" + unit("a", "b"))[:-20], 3),
        (tmx("\n\n" + unit("a&nbsp;b", "c")), 3),
        (tmx("\n" + unit("a", "b")).encode().replace(b">a<", b">\xe4<"), 2),
        (tmx("\n" + unit("<hi>" * 2_000 + "</hi>" * 2_000, "b")), 2),
        ("", 1),
        ("no XML", 1),
    ],
)
def test_malformed_xml_is_named(tmp_path: Path, content: str | bytes, line: int):
    path = write(tmp_path / "a.tmx", content)
    assert refusal(path).startswith(f"{path}:{line}: not XML: ")


# XLIFF


def test_xliff_1_text_crosses_inline_codes(tmp_path: Path):
    body = (
        '<group><trans-unit id="1"><source>Press <g id="1">Save <x id="2"/>now</g>'
        '<bpt id="3">&lt;b></bpt>!<ept id="3">&lt;/b></ept></source>'
        '<seg-source><mrk mtype="seg">no</mrk></seg-source>'
        '<target><mrk mtype="seg" mid="0">Jetzt</mrk> <mrk mtype="seg" mid="1">sichern</mrk>'
        "</target><alt-trans><source>no</source><target>no</target></alt-trans></trans-unit></group>"
        '<trans-unit id="2"><source>left out</source>'
        "<alt-trans><target>no</target></alt-trans></trans-unit>"
        '<trans-unit id="3"><source>kept</source><target/></trans-unit>'
    )
    pairs, left_out = read(write(tmp_path / "a.xlf", XLIFF_1 % body))
    assert [tuple(pair)[:2] for pair in pairs] == [
        ("Press Save now!", "Jetzt sichern"),
        ("kept", ""),
    ]
    assert left_out == {"XLIFF units without a target": 1}


def test_xliff_2_text_crosses_inline_codes(tmp_path: Path):
    body = (
        '<notes><note>no</note></notes><originalData><data id="d1">&lt;b></data></originalData>'
        '<segment><source>Press <pc id="1" dataRefStart="d1">Save <ph id="2"/>now</pc></source>'
        '<target>Jetzt <mrk id="m">sichern</mrk><sc id="3"/>!<ec startRef="3"/></target>'
        "</segment><segment><source>left out</source></segment>"
    )
    pairs, left_out = read(write(tmp_path / "a.xliff", XLIFF_2 % body))
    assert [tuple(pair)[:2] for pair in pairs] == [("Press Save now", "Jetzt sichern!")]
    assert left_out == {"XLIFF units without a target": 1}


@pytest.mark.parametrize("content", [XLIFF_1, XLIFF_2])
@pytest.mark.parametrize(("source", "target"), [("de", "en"), ("en", "fr"), ("e", "de")])
def test_xliff_in_other_languages_is_refused(
    tmp_path: Path, content: str, source: str, target: str
):
    path = write(tmp_path / "a.xlf", content % "")
    message = refusal(path, source, target)
    assert message.startswith(f"{path}:1: ")
    assert f"{source!r}" in message or f"{target!r}" in message


@pytest.mark.parametrize(("side", "code"), [("source", "fr"), ("target", "fr"), ("target", "en")])
def test_an_xliff_segment_in_another_language_is_refused(tmp_path: Path, side: str, code: str):
    unit = '<trans-unit id="1"><source>a</source><target>b</target></trans-unit>'
    spoilt = XLIFF_1 % unit.replace(f"<{side}>", f'<{side} xml:lang="{code}">')
    message = refusal(write(tmp_path / "a.xlf", spoilt))
    assert f"xml:lang is '{code}'" in message


# PO


def test_po_leaves_out_what_is_not_a_translation(tmp_path: Path):
    content = PO_HEADER % "UTF-8" + (
        '# a comment\n#: a.c:1\nmsgid "a\\n"\n"b"\nmsgstr ""\n"c \\"d\\"\\n"\n\n'
        '#, fuzzy, c-format\nmsgid "fuzzy"\nmsgstr "no"\n\n'
        'msgid "untranslated"\nmsgstr ""\n\n'
        'msgid "%d dog"\nmsgid_plural "%d dogs"\nmsgstr[0] "%d Hund"\nmsgstr[1] "%d Hunde"\n\n'
        'msgid "x"\nmsgid_plural "xs"\nmsgstr[0] "1"\nmsgstr[1] "2"\nmsgstr[2] "3"\n\n'
        'msgid "y"\nmsgid_plural "ys"\nmsgstr[0] "1"\nmsgstr[1] ""\n\n'
        'msgctxt "menu"\nmsgid "Open"\nmsgstr "Öffnen"\n\n'
        '#~ msgid "obsolete"\n#~ msgstr "no"\n'
    )
    pairs, left_out = read(write(tmp_path / "a.po", content))
    assert [(pair.source, pair.target, pair.line) for pair in pairs] == [
        ("a b", 'c "d" ', 5),
        ("%d dog", "%d Hund", 19),
        ("%d dogs", "%d Hunde", 19),
        ("Open", "Öffnen", 35),
    ]
    assert left_out == {
        "fuzzy PO messages": 1,
        "obsolete PO messages": 1,
        "untranslated PO messages": 2,
        "PO messages without exactly two plural forms": 1,
    }


@pytest.mark.parametrize("charset", ["ISO-8859-1", "windows-1252", "utf-8", "EUC-JP"])
def test_po_in_its_declared_charset(tmp_path: Path, charset: str):
    text = "日本" if charset == "EUC-JP" else "schön"
    content = (PO_HEADER % charset + f'msgid "a"\nmsgstr "{text}"\n').encode(charset)
    assert texts(write(tmp_path / "a.po", content)) == [("a", text)]


@pytest.mark.parametrize("charset", ["utf-8", "ascii"])
def test_po_that_is_not_in_its_charset_is_an_error(tmp_path: Path, charset: str):
    content = (PO_HEADER % charset + 'msgid "a"\nmsgstr "schön"\n').encode("latin-1")
    path = write(tmp_path / "a.po", content)
    assert refusal(path) == (
        f"{path}:6: not {charset} at byte 11 of the line, counted from 0 (0xf6)"
    )


@pytest.mark.parametrize("charset", ["CHARSET", "klingon", "hex"])
def test_po_in_an_unknown_charset_is_an_error(tmp_path: Path, charset: str):
    path = write(tmp_path / "a.po", PO_HEADER % charset)
    assert refusal(path) == f"{path}: unknown charset '{charset}'"


@pytest.mark.parametrize(
    ("message", "line"), [('msgid "a"\nmsgstr "b" c"\n', 6), ("hello\n", 5), ('msgstr "a"\n', 5)]
)
def test_malformed_po_is_named(tmp_path: Path, message: str, line: int):
    path = write(tmp_path / "a.po", PO_HEADER % "utf-8" + message)
    assert refusal(path).startswith(f"{path}:{line}: not PO")


def test_po_without_a_header(tmp_path: Path):
    path = write(tmp_path / "a.po", 'msgid "a"\nmsgstr "ä"\n')
    assert read(path)[0] == [Pair("a", "ä", str(path), 1)]


@pytest.mark.parametrize(
    "header",
    [
        '# "charset=UTF-8\\n"\nmsgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=%s\\n"\n',
        'msgid ""\nmsgstr ""\n"Content-Type: text/plain; "\n"charset=%s\\n"\n',
        'msgid ""\nmsgstr "Project: x\\nContent-Type: text/plain; charset=%s\\n"\n',
        'msgid ""\nmsgstr ""\n"content-type: text/plain; CHARSET=%s\\n"\n',
    ],
)
def test_po_charset_however_the_header_is_written(tmp_path: Path, header: str):
    content = (header % "EUC-JP" + '\nmsgid "a"\nmsgstr "日本"\n').encode("EUC-JP")
    assert texts(write(tmp_path / "a.po", content)) == [("a", "日本")]


def test_po_charset_is_only_in_a_header(tmp_path: Path):
    content = 'msgid "charset=EUC-JP"\nmsgstr "ü; charset=EUC-JP"\n'
    assert texts(write(tmp_path / "a.po", content)) == [("charset=EUC-JP", "ü; charset=EUC-JP")]


@pytest.mark.parametrize("charset", ["klingon", "undefined", "hex", "a\0b"])
def test_po_in_no_charset_is_named(tmp_path: Path, charset: str):
    path = write(tmp_path / "a.po", PO_HEADER % charset + 'msgid "a"\nmsgstr "ä"\n')
    assert f"{path}: unknown charset {charset!r}" in refusal(path)


@pytest.mark.parametrize(
    "entry",
    [
        'msgid "open\nmsgstr "offen"\n',
        'msgid open\nmsgstr "offen"\n',
        'msgid "a "b" c"\nmsgstr "d"\n',
        'msgid "a"\nmsgid_plural "as"\nmsgstr[0 "b"\n',
    ],
)
def test_po_with_a_quote_too_few_is_named(tmp_path: Path, entry: str):
    path = write(tmp_path / "a.po", PO_HEADER % "UTF-8" + entry)
    line = 5 if "plural" not in entry else 7
    assert f"{path}:{line}: not PO" in refusal(path)


def test_po_flags_without_a_space(tmp_path: Path):
    content = PO_HEADER % "UTF-8" + '#,fuzzy\nmsgid "a"\nmsgstr "b"\n\nmsgid "c"\nmsgstr "d\\"e"\n'
    pairs, left_out = read(write(tmp_path / "a.po", content))
    assert [(pair.source, pair.target) for pair in pairs] == [("c", 'd"e')]
    assert left_out == {"fuzzy PO messages": 1}
