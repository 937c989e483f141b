"""The gate that always applies: is this an answer at all?

Fails what is empty, a refusal, cut at the token limit, stopped by a content filter, or marked "[ESCALATE]" by the
model. Promises: pure; reads at most `_HEAD_CHARS` characters for the refusal patterns, so its time is bounded. A
refusal is only what an answer begins with, in the first person, about helping; an answer that quotes, translates or
discusses a refusal is none, nor is one that goes on at length after an opening apology.
"""

# ruff: noqa: E501 - a pattern is read as one line

from __future__ import annotations

import re
from typing import Final

from services.executor.outcome import Answer
from spillway.chat import FinishReason
from spillway.routing import GateVerdict, Verdict

__all__ = ["ESCALATE", "GATE", "INSTRUCTION", "check", "is_refusal", "without_mark"]

GATE: Final = "hard_failure"
_HEAD_CHARS: Final = 400  # a refusal says so at once
_REFUSAL_CHARS_MAX: Final = 1_200  # what is longer has more to say than no
ESCALATE: Final = "[ESCALATE]"
INSTRUCTION: Final = (
    f"If you cannot answer this well, or are not sure that you can, answer with exactly {ESCALATE} and nothing else."
)
# Alone on its line, at the start of one, or at the very end of the text; what stands within a sentence is talk of it.
# Repeats are bounded, so that the search stays linear on any text.
_MARK: Final = re.compile(
    r"^[ \t*_`>#\"'(]{0,12}\[ESCALATE\][ \t*_`.\"')]{0,12}|[ \t*_`]{0,12}\[ESCALATE\][\s*_`.\"')]{0,12}\Z", re.MULTILINE
)
_ALONE: Final = re.compile(r"[\s*_`\"'.]{0,12}\[\s?escalate\s?\][\s*_`\"'.!]{0,12}", re.IGNORECASE)

# Each pattern is matched at the very start of the answer, case-folded, with typographic apostrophes made plain.
# Verbs are about serving the request: "I can't find a mistake in it" is an answer.
_EN_VERBS: Final = (
    r"(?:help|assist|comply|fulfil+|provide|do that|do this|answer (?:that|this)|support (?:that|this)|engage|"
    r"create|generate|produce|write|share|discuss|offer|continue with|participate|complete (?:that|this)|"
    r"respond to (?:that|this)|process (?:that|this)|accommodate|give (?:you )?(?:instructions|advice|information))"
)
_EN_UNABLE: Final = (
    r"(?:can't|cannot|can not|won't|will not|am unable to|'m unable to|am not able to|'m not able to|"
    r"am not comfortable|'m not comfortable|must decline to|have to decline to|am not allowed to|'m not allowed to)"
)
_PATTERNS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        # English
        rf"(?:(?:i'm|i am) (?:very |so |really |truly )?sorry[,.]? ?(?:but )?|sorry[,.]? ?(?:but )?|i apologi[sz]e[,.]? ?(?:but )?|"
        rf"unfortunately[,.]? ?|as an ai(?: language model| assistant)?[,.]? ?)*i ?{_EN_UNABLE} (?:to )?{_EN_VERBS}",
        r"(?:i'm|i am) (?:very )?sorry[,.]? (?:but )?(?:that's|this is|that is) (?:not )?something i (?:can't|cannot|won't|can|will)",
        r"(?:i'm|i am) (?:very )?sorry[,.]? (?:but )?i (?:can't|cannot|won't|will not|must decline)\s*(?:\.|,|$| (?:do|with) (?:that|this))",
        r"(?:i must|i have to|i need to|i'll have to) (?:respectfully |politely )?(?:decline|refuse)\b",
        r"as an ai(?: language model| assistant)?,? i (?:don't|do not) (?:have the ability|feel comfortable|assist|provide|engage)",
        r"(?:this|that|your) request (?:goes|is) against (?:my|our) (?:guidelines|policy|policies|programming)",
        r"i (?:don't|do not) feel comfortable (?:helping|assisting|providing|writing|creating|with)",
        # German
        r"(?:(?:es tut mir (?:sehr )?leid|tut mir leid|leider|entschuldigung)[,.]? ?(?:aber |doch )?)+"
        r"(?:ich kann|kann ich|ich darf|darf ich|dabei kann ich|damit kann ich|ich bin nicht in der lage|das kann ich|diese (?:anfrage|bitte) kann ich)"
        r"[^.!?\n]{0,80}(?:nicht|keine?n?)\b[^.!?\n]{0,80}(?:helfen|weiterhelfen|behilflich|unterstützen|beantworten|erfüllen|bereitstellen|erstellen|nachkommen|tun|geben)",
        r"(?:ich kann|dabei kann ich|damit kann ich) (?:dir |ihnen |euch )?(?:dabei |damit |hierbei )?(?:leider )?nicht (?:weiter)?helfen",
        # French
        r"(?:(?:je suis|je m'excuse|je regrette)[^.,!?\n]{0,30}(?:désolée?|navrée?)?[,.]? ?(?:mais )?|désolée?[,.]? ?(?:mais )?|malheureusement[,.]? ?)*"
        r"je (?:ne (?:peux|puis|suis pas en mesure|saurais)|refuse)[^.!?\n]{0,40}(?:aider|assister|fournir|répondre à (?:cette|votre)|satisfaire|accéder à|créer|écrire|donner|participer)",
        # Spanish
        r"(?:(?:lo siento|lo lamento|disculpa|lamentablemente|perdón)[,.]? ?(?:mucho[,.]? ?)?(?:pero )?)*"
        r"no (?:puedo|me es posible|estoy en condiciones de|soy capaz de) (?:ayudar|asistir|proporcionar|cumplir|responder a es[ae]|crear|generar|escribir|ofrecer|hacer eso)",
        # Italian
        r"(?:(?:mi dispiace|spiacente|purtroppo|scusa)[,.]? ?(?:ma )?)*"
        r"non (?:posso|sono in grado di|mi è possibile) (?:aiutar|assister|fornir|soddisfar|risponder[ei] a quest|crear|generar|scriver|farlo|offrir)",
        # Portuguese
        r"(?:(?:sinto muito|desculpe|lamento|infelizmente|me desculpe)[,.]? ?(?:mas )?)*"
        r"(?:eu )?não (?:posso|consigo|sou capaz de|estou apto a) (?:te |lhe |o )?(?:ajudar|ajudá|auxiliar|fornecer|atender|responder a ess|criar|gerar|escrever|oferecer|fazer isso)",
        # Dutch
        r"(?:(?:het spijt me|sorry|helaas)[,.]? ?(?:maar )?)*"
        r"(?:ik kan|kan ik|daar kan ik|daarmee kan ik|hiermee kan ik)[^.!?\n]{0,40}(?:niet|geen)\b[^.!?\n]{0,60}(?:helpen|assisteren|verstrekken|voldoen|geven|bieden|schrijven|maken)",
        # Polish
        r"(?:(?:przykro mi|przepraszam|niestety)[,.]? ?(?:ale )?)*"
        r"nie (?:mogę|jestem w stanie|potrafię) (?:ci |pani |panu |państwu |w tym |z tym )*(?:pomóc|pomagać|udzielić|spełnić|dostarczyć|stworzyć|napisać|tego zrobić|odpowiedzieć na to)",
        # Russian, Ukrainian
        r"(?:(?:извините|простите|к сожалению|мне (?:очень )?жаль|прошу прощения)[,.]? ?(?:но )?)*"
        r"я не (?:могу|в состоянии|имею возможности) (?:вам |тебе |с этим |в этом )*(?:помочь|помогать|предоставить|выполнить|ответить на (?:этот|это)|создать|написать|помогу)",
        r"(?:(?:вибачте|перепрошую|на жаль)[,.]? ?(?:але )?)*я не можу (?:вам |тобі |з цим )*(?:допомогти|надати|виконати|створити|написати)",
        # Turkish
        r"(?:(?:üzgünüm|maalesef|özür dilerim)[,.]? ?(?:ama |ancak )?)+[^.!?\n]{0,80}(?:yardımcı olamam|yardım edemem|sağlayamam|yapamam|yerine getiremem)",
        # Chinese
        r"(?:(?:很|非常|十分)?(?:抱歉|对不起|對不起|遗憾|不好意思)[,,。.!!]? ?(?:但是?|但)?)+[^。!?\n]{0,20}我?(?:无法|不能|没法|無法|没有办法)"
        r"[^。!?\n]{0,20}(?:帮助|协助|提供|满足|完成|回答|处理|回應|回应|協助|幫助|生成)",
        r"(?:我|作为.{0,12}我)(?:无法|不能|無法)(?:帮助|协助|提供|满足|回答这|回答该|協助|幫助|处理这|处理该)",
        # Japanese
        r"(?:申し訳(?:ありません|ございません|ない)|すみません|ごめんなさい|恐れ入りますが|残念ながら)[^\n]{0,80}"
        r"(?:できません|お答えできません|お手伝いできません|いたしかねます|致しかねます|対応しかねます|できかねます)",
        # Korean
        r"(?:죄송합니다|죄송하지만|미안하지만|유감스럽게도)[^\n]{0,80}(?:도와드릴 수 없|도울 수 없|제공할 수 없|답변할 수 없|할 수 없습니다|드릴 수 없)",
        # Arabic
        r"(?:(?:أنا )?(?:آسف|عذرا|عذرًا|أعتذر|للأسف)[،,.]? ?(?:ولكن |لكن |لكنني |ولكنني )?)+[^.!؟\n]{0,30}لا (?:أستطيع|يمكنني)[^.!؟\n]{0,20}(?:مساعدة|المساعدة|مساعدتك|تقديم|تلبية|توفير)",
    )
)
_APOSTROPHES: Final = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "`": "'"})


def is_refusal(text: str) -> bool:
    """Whether `text` as a whole declines to answer, in any of the known languages."""
    stripped = text.strip()
    if len(stripped) > _REFUSAL_CHARS_MAX:
        return False
    head = " ".join(stripped[:_HEAD_CHARS].translate(_APOSTROPHES).casefold().lstrip("*_# ").split())
    return any(pattern.match(head) for pattern in _PATTERNS)


def without_mark(text: str) -> str:
    """The text without marks to escalate: they are meant for Spillway, never for the caller."""
    if _ALONE.fullmatch(text):
        return ""
    return _MARK.sub("", text).strip() if _MARK.search(text) else text


def check(answer: Answer) -> GateVerdict:
    """PASS, or FAIL with the kind of failure as the reason."""
    text = answer.message.text
    if answer.finish_reason is FinishReason.CONTENT_FILTER:
        return _fail("stopped by the provider's content filter")
    if answer.finish_reason is FinishReason.LENGTH:
        return _fail("cut at the output token limit")
    if answer.is_empty:
        return _fail("empty")
    if answer.refused or (not answer.message.tool_calls and is_refusal(text)):
        return _fail("a refusal")
    if _ALONE.fullmatch(text) or _MARK.search(text):
        return _fail("the model asked to escalate")
    return GateVerdict(gate=GATE, verdict=Verdict.PASS, reason="an answer")


def _fail(reason: str) -> GateVerdict:
    return GateVerdict(gate=GATE, verdict=Verdict.FAIL, reason=reason)
