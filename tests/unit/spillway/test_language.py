"""Which language a text is in, and when that is left open."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillway.language import detect, is_written_in

TEXTS = {
    "en": "The train leaves at nine, and you should be at the station a little before that.",
    "de": "Der Zug fährt um neun ab, und man sollte ein wenig früher am Bahnhof sein.",
    "fr": "Le train part à neuf heures, et vous devriez être à la gare un peu avant.",
    "es": "El tren sale a las nueve, y hay que estar en la estación un poco antes de la hora.",
    "it": "Il treno parte alle nove, e bisogna essere alla stazione un po' prima di quell'ora.",
    "pt": "O trem sai às nove, e você deve estar na estação um pouco antes da hora.",
    "nl": "De trein vertrekt om negen uur, en je moet iets eerder op het station zijn.",
    "pl": "Pociąg odjeżdża o dziewiątej i trzeba być na dworcu trochę wcześniej, bo jest tam tłok.",
    "sv": "Tåget går klockan nio, och man bör vara på stationen lite innan det är dags.",
    "tr": "Tren saat dokuzda kalkıyor ve bu yüzden biraz önce istasyonda olmak çok iyi olur.",
    "ru": "Поезд отправляется в девять, и на вокзале нужно быть чуть раньше.",
    "uk": "Поїзд відправляється о дев'ятій, і на вокзалі треба бути трохи раніше, щоб не запізнитися.",
    "zh": "火车九点出发,请提前到车站。如果您迟到了,可以乘坐十点的下一班火车。",
    "ja": "電車は九時に出ますので、少し早めに駅に着いてください。",
    "ko": "기차는 아홉 시에 출발하므로 조금 일찍 역에 도착하세요.",
    "el": "Το τρένο φεύγει στις εννέα και πρέπει να είστε νωρίτερα στον σταθμό.",
    "he": "הרכבת יוצאת בתשע וכדאי להגיע לתחנה קצת קודם.",
    "th": "รถไฟออกเวลาเก้าโมงเช้า",
}


@pytest.mark.parametrize("language", TEXTS)
def test_a_sentence_or_two_are_enough(language: str) -> None:
    assert detect(TEXTS[language]) == language
    assert is_written_in(TEXTS[language], language) is True
    assert all(is_written_in(TEXTS[language], other) is False for other in TEXTS if other != language)


@pytest.mark.parametrize(("text", "language"), [("القطار يغادر في التاسعة", "ar"), ("ट्रेन नौ बजे जाती है", "hi")])
def test_where_only_the_script_can_be_told_it_is_enough(text: str, language: str) -> None:
    assert is_written_in(text, language) is True
    assert is_written_in(text, "en") is False


@pytest.mark.parametrize("text", ["Paris", "Angela Merkel, Emmanuel Macron", "lorem ipsum dolor sit amet consectetur"])
def test_names_and_single_words_are_left_open(text: str) -> None:
    assert detect(text) is None
    assert is_written_in(text, "en") is None
    assert is_written_in(text, "ru") is False  # but the script is plain


def test_a_few_ideographs_may_be_chinese_or_japanese() -> None:
    assert is_written_in("東京都", "ja") is None
    assert is_written_in(TEXTS["ja"], "zh") is False


def test_a_language_that_is_not_known_is_neither_claimed_nor_denied() -> None:
    finnish = "Juna lähtee yhdeksältä, joten asemalla kannattaa olla hieman aikaisemmin."
    assert is_written_in(finnish, "fi") is None
    assert is_written_in(finnish, "el") is False


@pytest.mark.parametrize(
    "text", ["", "42", "3.14 + 2 = 5.14", "```python\nfor the in of: and\n```", "https://example.org/the/of/and"]
)
def test_what_has_no_words_is_in_no_wrong_language(text: str) -> None:
    assert is_written_in(text, "de") is True


def test_code_links_and_quotations_do_not_count() -> None:
    text = (
        "Die Funktion ist falsch, und der Fehler steht in der zweiten Zeile, die man so nicht lassen kann:\n"
        "```python\n# this is the line that should not be in the code, and it is what you have to fix\n```\n"
        'Im Englischen heißt es "this is the line that should not be there, and it is in the way".'
    )
    assert detect(text) == "de"


def test_two_languages_in_equal_parts_are_left_open() -> None:
    assert detect(TEXTS["en"] + " " + TEXTS["fr"]) is None


@given(st.text())
def test_no_text_is_an_error(text: str) -> None:
    is_written_in(text, "en")


@pytest.mark.parametrize("piece", ["`", "$", '"', "```\n", "“", "\\(", "a'", "https://"])
def test_long_runs_take_no_time(piece: str) -> None:
    is_written_in(piece * 100_000, "en")
