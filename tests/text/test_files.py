"""Lines end where they should, compressed or not, and what cannot be read is named."""

import gzip
import lzma
import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pytest

from calque.config import CalqueError
from calque.text.files import (
    COMPRESSIONS,
    expand,
    expand_pair,
    open_bytes,
    raw_lines,
    text_lines,
)

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
}
ODD = ["a\u2028b", "c\u0085d", "e\ff", "g\rh", "\x0b\x1c\u2029", "", "schön 你好", "last\r"]


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(COMPRESS[path.suffix if path.suffix in COMPRESS else ""](content))
    return path


def test_every_compression_is_tested():
    assert set(COMPRESSIONS) | {""} == set(COMPRESS)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("suffix", COMPRESS)
def test_only_newlines_end_a_line(tmp_path: Path, suffix: str, ending: str):
    path = write(tmp_path / f"odd{suffix}", ending.join(ODD).encode())
    assert list(text_lines(path)) == ODD
    assert list(raw_lines(path)) == [line.encode() for line in ODD]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_bytes_come_back_whole(tmp_path: Path, suffix: str):
    content = bytes(range(256)) * 4096
    with open_bytes(write(tmp_path / f"bytes{suffix}", content)) as stream:
        assert stream.read() == content


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_compressed_files_may_be_joined(tmp_path: Path, suffix: str):
    path = tmp_path / f"joined{suffix}"
    path.write_bytes(COMPRESS[suffix](b"one\ntw") + COMPRESS[suffix](b"o\n"))
    assert list(text_lines(path)) == ["one", "two"]


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a\n", ["a"]),
        (b"a\n\n", ["a", ""]),
        (b"a", ["a"]),
        (b"\xef\xbb\xbf", []),
        (b"\xef\xbb\xbf\n", [""]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", ["a", "\ufeffb"]),
    ],
)
def test_lines_are_counted_as_wc_does(tmp_path: Path, content: bytes, lines: list[str]):
    path = tmp_path / "lines"
    path.write_bytes(content)
    assert list(text_lines(path)) == lines


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_a_bad_byte_is_named(tmp_path: Path, bom: bytes):
    path = tmp_path / "latin"
    path.write_bytes(bom + b"good\n\xc3\xa4x\xe4y\n")
    lines = text_lines(path)
    assert next(lines) == "good"
    with pytest.raises(CalqueError) as caught:
        next(lines)
    assert str(caught.value) == (
        f"{path}:2: not UTF-8 at byte 3 of the line, counted from 0 (0xe4)"
    )


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_missing_file_is_named(tmp_path: Path, suffix: str):
    path = tmp_path / f"missing{suffix}"
    with pytest.raises(CalqueError, match="there is no such file") as caught:
        open_bytes(path)
    assert str(path) in str(caught.value)


def test_a_folder_is_not_a_file(tmp_path: Path):
    with pytest.raises(CalqueError, match="directory"):
        open_bytes(tmp_path)


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
@pytest.mark.parametrize("damage", ["cut", "plain"])
def test_a_damaged_file_is_named(tmp_path: Path, suffix: str, damage: str):
    noise = b"".join(b"%d\n" % (number**5) for number in range(20_000))
    whole = COMPRESS[suffix](noise)
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else noise)
    with pytest.raises(CalqueError, match="damaged or cut short") as caught:
        list(raw_lines(path))
    assert str(path) in str(caught.value)


def test_lines_come_before_the_end_is_read(tmp_path: Path):
    path = tmp_path / "cut.gz"
    noise = gzip.compress(b"".join(b"%d\n" % (number**5) for number in range(50_000)))
    path.write_bytes(noise[:-8])
    assert list(islice(text_lines(path), 3)) == ["0", "1", "32"]


def test_expand_keeps_the_order_of_patterns_and_sorts_within(tmp_path: Path):
    for name in ("b.en", "a.en", "c.de", "z[1].en"):
        (tmp_path / name).touch()
    (tmp_path / "folder.en").mkdir()
    patterns = (str(tmp_path / "c.de"), str(tmp_path / "*.en"), str(tmp_path / "a.en"))
    names = [path.name for path in expand(patterns)]
    assert names == ["c.de", "a.en", "b.en", "z[1].en", "a.en"]
    assert expand(str(tmp_path / "z[1].en")) == [tmp_path / "z[1].en"]


def test_expand_knows_home_and_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.en").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand("~/s*/a.en") == [tmp_path / "sub" / "a.en"]
    monkeypatch.chdir(tmp_path / "sub")
    assert expand("*.en") == [Path("a.en")]
    assert [path.resolve() for path in expand("../**/*.en")] == [tmp_path / "sub" / "a.en"]


@pytest.mark.parametrize("pattern", ["missing.en", "missing*.en", "**.en", "~no-such-user/a"])
def test_a_pattern_without_a_file_is_named(pattern: str):
    with pytest.raises(CalqueError) as caught:
        expand((__file__, pattern))
    assert str(caught.value).startswith(f"{pattern}: ")


@pytest.mark.parametrize(
    ("sources", "targets"),
    [("*.en", "*.zh"), ("n*.en", "n*.zh"), ("new[s].*en", "new[s].*zh"), ("**/*.en", "**/*.zh")],
)
def test_files_of_two_globs_are_paired_by_what_the_wildcards_stand_for(
    tmp_path: Path, sources: str, targets: str
):
    names = ["news", "news.part2", "news.part10"]  # sorted as names, they have another order in zh
    for name in names:
        (tmp_path / f"{name}.en").touch()
        (tmp_path / f"{name}.zh").touch()
    pairs = expand_pair(str(tmp_path / sources), str(tmp_path / targets))
    assert sorted((s.stem, t.stem) for s, t in pairs) == [(n, n) for n in sorted(names)]


def test_globs_that_stand_for_other_names_are_no_pair(tmp_path: Path):
    for name in ("a.en", "b.en", "b.zh", "c.zh"):
        (tmp_path / name).touch()
    sources, targets = str(tmp_path / "*.en"), str(tmp_path / "*.zh")
    with pytest.raises(CalqueError, match=r"a\.en and .*b\.zh: do they belong together.*'a'.*'b'"):
        expand_pair(sources, targets)
    listed = (str(tmp_path / "b.zh"), str(tmp_path / "c.zh"))
    assert [t.name for _, t in expand_pair(sources, listed)] == ["b.zh", "c.zh"]


def test_a_pipe_is_refused(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CalqueError, match="pipe: not a file"):
        expand(str(tmp_path / "pipe"))
