"""The demo corpus: right German, one German for each English, and everything in it used."""

import hashlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from random import Random
from typing import Any

import pytest

from calque.config import CalqueError
from calque.demo.grammar import LANGUAGES, Grammar, write_corpus

PACKAGED = resources.files("calque.demo").joinpath("grammar.toml").read_text("utf-8")
Sections = dict[str, Any]


@pytest.fixture
def sections() -> Sections:
    return tomllib.loads(PACKAGED)


@pytest.fixture(scope="module")
def corpus() -> list[tuple[str, str]]:
    return Grammar.load().pairs(20_000, seed=1)


def all_pairs(grammar: Grammar, category: str, draws: int = 1000) -> dict[str, str]:
    """English to German of (nearly) everything that a small category says."""
    random = Random(0)
    return dict(grammar.pair(random, category) for _ in range(draws))


def narrowed(sections: Sections, words: str = "", **choices: str) -> Grammar:
    """The grammar with less in it.

    Of a table of words that has some of `words`, only those stay; of a choice named in `choices`,
    only the options given there.
    """
    kept = set(words.split(", "))
    for section in sections.values():
        if "rows" in section:
            column = section["columns"].index("english")
            rows = [row for row in section["rows"] if row[column] in kept]
            filed = "category" in section["columns"]
            touched = {row[0] for row in rows} if filed else {True}
            if rows:
                others = (row for row in section["rows"] if filed and row[0] not in touched)
                section["rows"] = [*rows, *others]
    for category, options in choices.items():
        sections[category] = {"any": dict.fromkeys(options.split(), 1)}
    return Grammar(sections)


# --- Right German ---------------------------------------------------------------------------------

NOUN_PHRASES = """
the dog            | der Hund            | den Hund            | dem Hund
the small dog      | der kleine Hund     | den kleinen Hund    | dem kleinen Hund
the small cat      | die kleine Katze    | die kleine Katze    | der kleinen Katze
the small horse    | das kleine Pferd    | das kleine Pferd    | dem kleinen Pferd
this small dog     | dieser kleine Hund  | diesen kleinen Hund | diesem kleinen Hund
this small cat     | diese kleine Katze  | diese kleine Katze  | dieser kleinen Katze
this small horse   | dieses kleine Pferd | dieses kleine Pferd | diesem kleinen Pferd
a small dog        | ein kleiner Hund    | einen kleinen Hund  | einem kleinen Hund
a small cat        | eine kleine Katze   | eine kleine Katze   | einer kleinen Katze
an old horse       | ein altes Pferd     | ein altes Pferd     | einem alten Pferd
my small dog       | mein kleiner Hund   | meinen kleinen Hund | meinem kleinen Hund
her old cat        | ihre alte Katze     | ihre alte Katze     | ihrer alten Katze
his old horse      | sein altes Pferd    | sein altes Pferd    | seinem alten Pferd
the small dogs     | die kleinen Hunde   | die kleinen Hunde   | den kleinen Hunden
these old cats     | diese alten Katzen  | diese alten Katzen  | diesen alten Katzen
my small horses    | meine kleinen Pferde | meine kleinen Pferde | meinen kleinen Pferden
small dogs         | kleine Hunde        | kleine Hunde        | kleinen Hunden
two dogs           | zwei Hunde          | zwei Hunde          | zwei Hunden
the boy's dog      | der Hund des Jungen | den Hund des Jungen | dem Hund des Jungen
this boy's cat     | die Katze dieses Jungen | die Katze dieses Jungen | der Katze dieses Jungen
the old cat's dog  | der Hund der alten Katze | den Hund der alten Katze | dem Hund der alten Katze
"""


def test_noun_phrases_agree_in_case_gender_and_number(sections: Sections) -> None:
    cases = ("nominative", "accusative", "dative")
    for case in cases:
        sections[case] = {"english": "{animal}", "german": f"{{animal.{case}}}"}
    words = "dog, cat, horse, small, old, boy, two"
    grammar = narrowed(sections, words, quantity="two_to_nine", stranger_noun="weak_stranger_noun")
    said = {case: all_pairs(grammar, case, 6000) for case in cases}
    for line in NOUN_PHRASES.strip().splitlines():
        english, *german = (cell.strip() for cell in line.split("|"))
        assert [said[case][_capitalised(english)] for case in cases] == [
            _capitalised(phrase) for phrase in german
        ]


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


WORDS = (
    "I, he, they, man, child, door, book, garden, house, school, table, in, into, to, open, buy, "
    "help, follow, give, go, get up, work, wait, lay, hope, must, happy, tired, tomorrow, "
    "on Monday, because, if"
)
PLAIN = {
    "subject": "pronoun stranger",
    "determiner": "the a",
    "article_or_this": "the a",
    "indefinite": "a",
    "noun_phrase": "plain",
    "unowned": "plain",
    "bare_phrase": "plain",
    "person": "stranger",
    "living": "person",
    "stranger_noun": "strong_stranger_noun",
    "place": "location",
    "past": "simple_past not_past past_is",
    "event": "doing getting opening helping waiting giving laying staying going coming",
    "clause": "any_tense",
    "when": "nothing",
    "time": "weekday present_adverb",
    "manner": "nothing",
}
TWO_CLAUSES = {
    "event": "opening",
    "subject": "pronoun",
    "present": "simple_present wanting",
    "past": "simple_past",
    "future": "modal",
}
SENTENCES = {
    "simple": """
        The man opens the door.
            Der Mann macht die Tür auf.
        I open the door.
            Ich mache die Tür auf.
        They open a door.
            Sie machen eine Tür auf.
        The man wants to open the door.
            Der Mann will die Tür aufmachen.
        He must open the door.
            Er muss die Tür aufmachen.
        I opened the door.
            Ich habe die Tür aufgemacht.
        The man does not open the door.
            Der Mann macht die Tür nicht auf.
        They do not open a door.
            Sie machen keine Tür auf.
        A man did not open a door.
            Ein Mann hat keine Tür aufgemacht.
        He did not buy the book.
            Er hat das Buch nicht gekauft.
        He does not help a man.
            Er hilft keinem Mann.
        They helped the man.
            Sie haben dem Mann geholfen.
        They followed the man.
            Sie sind dem Mann gefolgt.
        He gives a book to the man.
            Er gibt dem Mann ein Buch.
        He buys a book for the man.
            Er kauft ein Buch für den Mann.
        The man waits for a man.
            Der Mann wartet auf einen Mann.
        I did not wait for the man.
            Ich habe nicht auf den Mann gewartet.
        They did not work in the garden.
            Sie haben nicht im Garten gearbeitet.
        I work in the school.
            Ich arbeite in der Schule.
        He went into the garden.
            Er ist in den Garten gegangen.
        He went into the house.
            Er ist ins Haus gegangen.
        He goes to the school.
            Er geht zur Schule.
        He goes to the house.
            Er geht zum Haus.
        I lay the book on the table.
            Ich lege das Buch auf den Tisch.
        He got up.
            Er ist aufgestanden.
        I am not happy.
            Ich bin nicht glücklich.
        The man was tired.
            Der Mann war müde.
    """,
    "fronted": """
        Tomorrow the man opens the door.
            Morgen macht der Mann die Tür auf.
        On Monday they got up.
            Am Montag sind sie aufgestanden.
        Tomorrow he wants to buy a book.
            Morgen will er ein Buch kaufen.
    """,
    "yes_or_no": """
        Does the man open the door?
            Macht der Mann die Tür auf?
        Do I open the door?
            Mache ich die Tür auf?
        Did the man open the door?
            Hat der Mann die Tür aufgemacht?
        Must they open the door?
            Müssen sie die Tür aufmachen?
        Was the man tired?
            War der Mann müde?
    """,
    "why": """
        Why did he buy the book?
            Warum hat er das Buch gekauft?
        When does the man get up?
            Wann steht der Mann auf?
    """,
    "who": """
        Who opened the door?
            Wer hat die Tür aufgemacht?
        Who does not open the door?
            Wer macht die Tür nicht auf?
    """,
    "what": """
        What does the man buy?
            Was kauft der Mann?
        What did he not buy?
            Was hat er nicht gekauft?
    """,
    "that": """
        They hope that he opens the door.
            Sie hoffen, dass er die Tür aufmacht.
        He hoped that I opened the door.
            Er hat gehofft, dass ich die Tür aufgemacht habe.
        I hope that he must open a door.
            Ich hoffe, dass er eine Tür aufmachen muss.
    """,
    "linked_present": """
        I open the door because he opens a door.
            Ich mache die Tür auf, weil er eine Tür aufmacht.
        Because he opens the door, I open a door.
            Weil er die Tür aufmacht, mache ich eine Tür auf.
        If I want to open a door, he opens the door.
            Wenn ich eine Tür aufmachen will, macht er die Tür auf.
    """,
    "things_there": """
        There is a book on the table.
            Auf dem Tisch liegt ein Buch.
    """,
}


@pytest.mark.parametrize("category", SENTENCES)
def test_sentences_are_right(sections: Sections, category: str) -> None:
    more = TWO_CLAUSES if category in ("that", "linked_present") else {}
    said = all_pairs(narrowed(sections, WORDS, **{**PLAIN, **more}), category, 6000)
    lines = [line.strip() for line in SENTENCES[category].strip().splitlines()]
    expected = dict(zip(lines[::2], lines[1::2], strict=True))
    assert {english: said.get(english) for english in expected} == expected


def test_numbers_from_0_to_199(sections: Sections) -> None:
    units = ["null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"]
    teens = ["zehn", "elf", "zwölf", "dreizehn", "vierzehn", "fünfzehn", "sechzehn", "siebzehn"]
    tens = ["zwanzig", "dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig"]
    small = [*units, *teens, "achtzehn", "neunzehn"]

    def german(number: int) -> str:
        if number >= 100:
            return "einhundert" + (german(number - 100) if number > 100 else "")
        if number < 20:
            return small[number]
        unit = {0: "", 1: "einund"}.get(number % 10, f"{units[number % 10]}und")
        return unit + tens[number // 10 - 2]

    said = all_pairs(Grammar(sections), "number", 5000)
    assert sorted(said.values()) == sorted(german(number).capitalize() for number in range(200))
    assert said["Twenty-one"] == "Einundzwanzig"
    assert said["Thirty-seven"] == "Siebenunddreißig"
    assert said["One hundred and one"] == "Einhunderteins"
    assert said["One hundred and sixteen"] == "Einhundertsechzehn"
    assert said["One hundred and ninety-eight"] == "Einhundertachtundneunzig"


def test_dates_and_hours(sections: Sections) -> None:
    grammar = Grammar(sections)
    dates = all_pairs(grammar, "date", 5000)
    assert len(dates) == 29 * 12
    assert dates["On the first of January"] == "Am ersten Januar"
    assert dates["On the third of March"] == "Am dritten März"
    assert dates["On the seventh of June"] == "Am siebten Juni"
    assert dates["On the sixteenth of May"] == "Am sechzehnten Mai"
    assert dates["On the twentieth of July"] == "Am zwanzigsten Juli"
    assert dates["On the twenty-first of May"] == "Am einundzwanzigsten Mai"
    hours = all_pairs(grammar, "clock")
    assert hours["At one o'clock"] == "Um ein Uhr"
    assert hours["At half past three"] == "Um halb vier"
    assert hours["At half past twelve"] == "Um halb eins"


def test_every_sentence_is_spelled_like_one(corpus: list[tuple[str, str]]) -> None:
    for sentence in (side for pair in corpus for side in pair):
        assert re.fullmatch(r"[A-ZÄÖÜ][^.?]*[^ .,?][.?]", sentence), sentence
        assert not re.search(r"  | [.,?]|,[^ ]", sentence), sentence
    for english, german in corpus:
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", english, re.IGNORECASE), english
        assert not re.search(r"[^,] (weil|obwohl|wenn|als|während|dass|ob) ", german), german
        assert english[-1] == german[-1]


# --- One German sentence for each English one -----------------------------------------------------


def test_english_decides_german(sections: Sections) -> None:
    # With one word of a kind the same English comes back often, from whatever trees there are.
    for section in sections.values():
        if "rows" in section:
            kinds: dict[str, list[list[str]]] = {}
            filed = "category" in section["columns"]
            for row in section["rows"]:
                kinds.setdefault(row[0] if filed else "", []).append(row)
            section["rows"] = [row for rows in kinds.values() for row in rows[:1]]
    grammar = narrowed(sections, quantity="two_to_nine")
    random = Random(0)
    german_of: dict[str, str] = {}
    repeated = 0
    for english, german in (grammar.pair(random) for _ in range(10_000)):
        repeated += english in german_of
        assert german_of.setdefault(english, german) == german, english
    assert repeated > 1000


def test_an_ambiguous_grammar_is_refused(sections: Sections) -> None:
    sections["weekday"]["rows"].append(["on Monday", "montags"])
    with pytest.raises(CalqueError, match=r"On Monday.* is both "):
        narrowed(sections, "on Monday, man", sentence="weekday").pairs(3, seed=0)


# --- The corpus -----------------------------------------------------------------------------------


def test_pairs_are_distinct_on_both_sides(corpus: list[tuple[str, str]]) -> None:
    for side in zip(*corpus, strict=True):
        assert len(set(side)) == len(side) == 20_000


def test_pairs_follow_from_the_seed_alone(corpus: list[tuple[str, str]]) -> None:
    code = (
        "import hashlib; from calque.demo.grammar import Grammar;"
        "print(hashlib.sha256(repr(Grammar.load().pairs(300, 1)).encode()).hexdigest())"
    )
    # Another process: the order of its sets of strings is another.
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == hashlib.sha256(repr(corpus[:300]).encode()).hexdigest()
    assert Grammar.load().pairs(300, seed=2) != corpus[:300]


def test_a_grammar_with_too_few_sentences_is_refused(sections: Sections) -> None:
    with pytest.raises(CalqueError, match="hardly more than 12 sentences"):
        narrowed(sections, sentence="month").pairs(13, seed=0)


def test_written_splits_share_no_sentence(tmp_path: Path) -> None:
    write_corpus(tmp_path / "demo", seed=3, train=300, valid=40, test=50)
    lines = {
        path.name: path.read_text(encoding="utf-8").splitlines()
        for path in (tmp_path / "demo").iterdir()
    }
    for suffix in ("en", "de"):
        parts = [lines[f"{split}.{suffix}"] for split in ("train", "valid", "test")]
        assert [len(part) for part in parts] == [300, 40, 50]
        assert len(set().union(*parts)) == 390
    translations = dict(Grammar.load().pairs(390, seed=3))
    for split in ("train", "valid", "test"):
        assert [translations[line] for line in lines[f"{split}.en"]] == lines[f"{split}.de"]


def test_more_training_pairs_leave_the_test_set_as_it_is(tmp_path: Path) -> None:
    for train in (10, 20):
        write_corpus(tmp_path / str(train), seed=0, train=train, valid=5, test=5)
    for name in ("test.en", "test.de", "valid.en"):
        assert (tmp_path / "10" / name).read_text() == (tmp_path / "20" / name).read_text()


MARK = re.compile(r"<\d+>")


def _form_columns(section: Sections) -> list[int]:
    return [i for i, column in enumerate(section["columns"]) if column.split()[0] in LANGUAGES]


def _changed(forms: Any, change: Callable[[str], str]) -> Any:
    if isinstance(forms, str):
        return change(forms)
    kept = ("slots", "features", "agree")
    return {k: v if k in kept else _changed(v, change) for k, v in forms.items()}


def test_every_form_of_every_word_and_pattern_is_used(sections: Sections) -> None:
    marks: list[str] = []

    def marked(text: str) -> str:
        marks.append(f"<{len(marks)}>")
        return text + marks[-1]

    for name, section in sections.items():
        if "rows" in section:
            for row in section["rows"]:
                for index in _form_columns(section):
                    row[index] = marked(row[index])
        elif not {"any", "like"} & section.keys() and name not in ("features", "spelling"):
            sections[name] = _changed(section, marked)
    grammar, random = Grammar(sections), Random(0)
    found = {m for _ in range(20_000) for t in grammar.pair(random) for m in MARK.findall(t)}
    assert [mark for mark in marks if mark not in found] == []


def test_words_change_places_in_most_pairs(sections: Sections) -> None:
    row_count = 0
    for section in sections.values():
        for row in section.get("rows", ()):
            row_count += 1
            for index in _form_columns(section):
                row[index] = f"<{row_count}>" if row[index] else ""
    grammar, random = Grammar(sections), Random(0)
    crossing = 0
    for _ in range(1000):
        english, german = (list(dict.fromkeys(MARK.findall(t))) for t in grammar.pair(random))
        assert set(german) <= set(english)
        crossing += german != [mark for mark in english if mark in german]
    assert crossing > 500


# --- The notation ---------------------------------------------------------------------------------


def test_a_new_word_needs_one_line(tmp_path: Path) -> None:
    changed = tmp_path / "grammar.toml"
    row = '["thing_noun", "guitar", "guitars", "feminine", "Gitarre", "Gitarren"],'
    changed.write_text(
        PACKAGED.replace('    ["thing_noun", ', f'    {row}\n    ["thing_noun", ', 1)
    )
    said = dict(Grammar(tomllib.loads(changed.read_text())).pairs(2000, seed=0))
    guitars = {english: german for english, german in said.items() if "guitar" in english}
    assert guitars
    for english, german in guitars.items():
        assert ("guitars" in english) == ("Gitarren" in german)


def test_a_new_pattern_needs_no_code(sections: Sections) -> None:
    sections["like"] = {
        "agree": {"number": "subject", "person": "subject"},
        "english": "{subject} {do} not like {thing}.",
        "german": "{subject.nominative} {fond} {thing.accusative.negated} {nicht}.",
        "features": {"definiteness": "indefinite"},
    }
    sections["fond"] = {"german": {"plural": "mögen", "singular": "mag"}}
    sections["sentence"]["any"] = {"like": 1}
    said = narrowed(sections, "I, apple", determiner="a").pairs(20, seed=0)
    assert ("I do not like an apple.", "Ich mag keinen Apfel.") in said


@pytest.mark.parametrize(
    ("category", "section", "message"),
    [
        ("simple", {"english": "{claus}."}, r"\[simple\]: no 'claus'; did you mean 'clause'"),
        ("simple", {"english": "{clause.mian}."}, r"\[simple\]: no 'mian'; did you mean 'main'"),
        ("simple", {"englisch": "Oh."}, r"\[simple\]: no 'englisch'; did you mean 'english'"),
        ("simple", {"english": "Oh.", "agree": {"number": "she"}}, r"\[simple\] agree: no 'she'"),
        ("weekday", {"columns": ["english"], "rows": [["a", "b"]]}, r"\[weekday\]: .* columns"),
        ("clause", {"any": {"claus": 1}}, r"\[clause\]: no 'claus'"),
        ("clause", {"like": "claus", "with": {}}, r"\[clause\]: no 'claus'"),
    ],
)
def test_a_slip_in_the_grammar_is_named(
    sections: Sections, category: str, section: Sections, message: str
) -> None:
    with pytest.raises(CalqueError, match=message):
        Grammar({**sections, category: section})


def test_a_missing_form_is_named(sections: Sections) -> None:
    sections["lie"] = {"german": {"plural": "liegen"}}
    with pytest.raises(CalqueError, match=r"\[lie\]: no german form for .*singular"):
        Grammar(sections).pairs(1000, seed=0)
