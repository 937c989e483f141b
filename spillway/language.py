"""Which language a text is written in, when that is plain: by its script, and in Latin and Cyrillic script by its
commonest words.

Promises: pure; at most `TEXT_CHARS_MAX` characters are read; says nothing when unsure. Code, links, mathematics and
quoted material are left out: they are in no language, or in another's. Small words (articles, prepositions, pronouns)
make up a third to a half of running text in these languages and hardly occur in others, so a few sentences are enough
and no model is needed; a name or a single word is not. Told apart by words: `WORDS`. By script alone: Greek, Hebrew,
Arabic, Hindi, Thai, Korean, Japanese (kana) and Chinese (ideographs without kana). Of languages that share a script
and are not known here nothing is claimed, except that a text in another script is not in them.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from typing import Final

__all__ = ["TEXT_CHARS_MAX", "WORDS", "detect", "is_written_in", "without_code"]

TEXT_CHARS_MAX: Final = 20_000
_HITS_MIN: Final = 3
_DENSITY_MIN: Final = 0.12  # of the words; below it the language is another one, or the text a list of names
_LEAD_MIN: Final = 1.6  # times the hits of the runner-up
_SCRIPT_SHARE_MIN: Final = 0.6
_LETTERS_MIN: Final = 4

_CODE: Final = re.compile(r"^[ \t]{0,3}(```|~~~)[^\n]*\n.*?(?:^[ \t]{0,3}\1[^\n]*$|\Z)", re.MULTILINE | re.DOTALL)
_INLINE: Final = re.compile(r"`[^`\n]{1,400}`")
_LINK: Final = re.compile(r"https?://\S{1,2000}|\bdoi:\S{1,200}", re.IGNORECASE)
_MATHS: Final = re.compile(
    r"\$\$.{1,2000}?\$\$|\$[^$\n]{1,400}\$|\\\(.{1,400}?\\\)|\\\[.{1,2000}?\\\]|\\[A-Za-z]{1,30}", re.DOTALL
)
_QUOTED: Final = re.compile(r"\"[^\"\n]{1,400}\"|“[^”\n]{1,400}”|„[^“”\n]{1,400}[“”]|«[^»\n]{1,400}»")
_WORD: Final = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")

WORDS: Final = {
    language: frozenset(words.split())
    for language, words in {
        "en": "the of and to in is that it for was with as on are be this by not or from at have an they which but you "
        "we his her were been their has would will can if what there so when who more also these than its into how "
        "your i my do does should could because",
        "de": "der die das und ist in den von zu mit sich des auf für nicht ein eine einen einem einer dem es auch an "
        "als werden aus er hat dass sie nach wird bei noch wie im über so zum kann wenn oder aber vor zur bis mehr "
        "durch man sind nur wir ich ihr sein diese dieser dieses haben war",
        "fr": "le la les de des du et est en un une que qui dans pour pas au sur ne par plus ce cette avec se il elle "
        "sont aux mais nous vous ils ou son sa ses leur être fait comme tout ont était si où deux même donc très "
        "c'est d'un d'une qu'il n'est l'on je tu",
        "es": "el la los las de del y en que es un una por con para no se su al lo como más pero sus le ya o este sí "
        "porque esta son entre está cuando muy sin sobre también hasta hay donde quien desde todo nos ser puede fue "
        "ha si yo tiene",
        "it": "il lo la i gli le di del della dei delle e è in un una che per non con si da al alla come più ma sono "
        "anche nel nella questo questa ha o se su dal dalla essere stato suo sua quando così perché può cui tra io "
        "ho c'è dell'",
        "pt": "o a os as de do da dos das e é em um uma que para não com se no na por mais como mas ao ou seu sua ser "
        "são foi está isso esta este quando muito também já até pelo pela entre sem nos você ele ela eu pode tem "
        "à às",
        "nl": "de het een en van is in op te dat die voor met zijn niet aan er om ook als bij naar uit door over dan "
        "maar nog wordt deze dit heeft kan worden zo wel geen je we ik hij ze meer hebben waar tot of was onder wat",
        "pl": "i w na z do nie się jest to że o jak po od za przez dla ale są czy był które który która tego tym oraz "
        "może lub ma tak już być jego ich jako tylko tej co przy także gdy można bardzo ja",
        "sv": "och att det i en som på är av för med den till inte har de om ett han men var jag sig från vi så kan "
        "när man eller hade nu efter också vid skulle detta sin mot där vara alla mycket finns",
        "tr": "ve bir bu için ile da de olarak çok daha olan gibi ne en o var ama değil kadar sonra ise her şey mi ya "
        "olduğu olur eğer ki bunu diye göre hem veya ancak bana sen ben",
        "ru": "и в не на я что он с как это по но из у за к от так же все она был его для о мы бы вы если или когда "
        "только уже может они есть был быть при также того этот этого чтобы",
        "uk": "і в не на що він з як це по але із у за до від так же все вона був його для про ми б ви якщо або коли "
        "тільки вже може вони є бути при також того цей цього щоб та й",
    }.items()
}
_SCRIPT_OF: Final = {
    **dict.fromkeys(("en", "de", "fr", "es", "it", "pt", "nl", "pl", "sv", "tr"), "LATIN"),
    **dict.fromkeys(
        ("da", "no", "fi", "cs", "sk", "hu", "ro", "hr", "sl", "et", "lv", "lt", "vi", "id", "ms"), "LATIN"
    ),
    **dict.fromkeys(("ru", "uk", "bg", "be", "mk"), "CYRILLIC"),
    "el": "GREEK",
    "he": "HEBREW",
    **dict.fromkeys(("ar", "fa", "ur"), "ARABIC"),
    **dict.fromkeys(("hi", "mr", "ne"), "DEVANAGARI"),
    "th": "THAI",
    "ko": "HANGUL",
    "ja": "KANA",
    "zh": "CJK",
}
_BY_SCRIPT: Final = {"GREEK": "el", "HEBREW": "he", "THAI": "th", "HANGUL": "ko", "KANA": "ja", "CJK": "zh"}
_KANA_EXPECTED_CHARS: Final = 24  # Japanese of fewer characters may do with ideographs alone
_KANA_SHARE_MIN: Final = 0.1  # Japanese writes its endings in kana; Chinese has none


def detect(text: str) -> str | None:
    """The ISO 639-1 code of the text's language; None when unsure, or when it is not one of those known."""
    prose = _prose(text)
    script = _script(prose)
    if script in {"LATIN", "CYRILLIC"}:
        return _by_words(prose, script)
    return _BY_SCRIPT.get(script or "")


def is_written_in(text: str, language: str) -> bool | None:
    """Whether the text is in `language` (ISO 639-1); None when unsure. Without words it is in any."""
    prose = _prose(text)
    if not any(char.isalpha() for char in prose):
        return True
    script, wanted = _script(prose), _SCRIPT_OF.get(language)
    if script is not None and wanted is not None and script != wanted:
        if script == "CJK" and wanted == "KANA" and len(prose) < _KANA_EXPECTED_CHARS:
            return None
        return False
    found = detect(text)
    if found is not None:
        return found == language
    if script is not None and script == wanted and wanted in {"ARABIC", "DEVANAGARI"}:
        return True  # the script is all that can be told apart
    return None


def without_code(text: str) -> str:
    """The text without code blocks and inline code."""
    return _INLINE.sub(" ", _CODE.sub(" ", text[:TEXT_CHARS_MAX]))


def _prose(text: str) -> str:
    bare = _MATHS.sub(" ", _LINK.sub(" ", without_code(text)))
    unquoted = _QUOTED.sub(" ", bare)
    return unquoted if any(char.isalpha() for char in unquoted) else bare


def _script(prose: str) -> str | None:
    """The script of most letters; None when there are few, or of several."""
    counts: Counter[str] = Counter()
    for char, times in Counter(prose).items():
        if char.isalpha():
            name = unicodedata.name(char, "").split(" ", 1)[0].split("-", 1)[0]
            counts[{"HIRAGANA": "KANA", "KATAKANA": "KANA"}.get(name, name)] += times
    letters = counts.total()
    if (
        counts["KANA"] >= _KANA_SHARE_MIN * letters > 0
        and counts["KANA"] + counts["CJK"] >= _SCRIPT_SHARE_MIN * letters
    ):
        return "KANA"
    if not letters:
        return None
    script, count = counts.most_common(1)[0]
    least = 1 if script in {"CJK", "HANGUL"} else _LETTERS_MIN
    return script if count >= _SCRIPT_SHARE_MIN * letters and letters >= least else None


def _by_words(prose: str, script: str) -> str | None:
    words = [word.replace("’", "'").casefold() for word in _WORD.findall(prose)]
    candidates = [language for language in WORDS if _SCRIPT_OF[language] == script]
    hits = sorted(((sum(word in WORDS[name] for word in words), name) for name in candidates), reverse=True)
    (most, language), (second, _) = hits[:2]
    if most < _HITS_MIN or most < _DENSITY_MIN * len(words) or most < _LEAD_MIN * second:
        return None
    return language
