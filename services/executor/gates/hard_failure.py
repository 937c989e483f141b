"""The gate that always applies: is this an answer at all?

Fails what is empty, a refusal, cut at the token limit, stopped by a content filter, or marked "[ESCALATE]" by the
model. Promises: pure; reads at most `_HEAD_CHARS` characters for the refusal patterns, so its time is bounded. A
refusal is only what an answer begins with, in the first person, about helping; an answer that quotes or discusses a
refusal is none, nor is one that goes on at length after an opening apology. A translation or a piece of writing may be
a refusal word for word: where that is the task and the request itself has a refusal in it, none is seen.
"""

# ruff: noqa: E501 - a pattern is read as one line

from __future__ import annotations

import re
from typing import Final

from services.executor.outcome import Answer
from spillway.chat import ChatRequest, FinishReason
from spillway.routing import GateVerdict, TaskType, Verdict

__all__ = ["ESCALATE", "GATE", "INSTRUCTION", "check", "is_refusal", "without_mark"]

GATE: Final = "hard_failure"
_HEAD_CHARS: Final = 400  # a refusal says so at once
_REFUSAL_CHARS_MAX: Final = 1_200  # what is longer has more to say than no
_REQUEST_CHARS_MAX: Final = 4_000
_PIECES_MAX: Final = 100
_PIECES: Final = re.compile(r"[\n:\"“”„«»]|(?<!\w)'|'(?!\w)")
_WRITING: Final = frozenset({TaskType.TRANSLATION, TaskType.REWRITING, TaskType.CREATIVE})
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
# A refusal is about serving the request: verbs of help, or verbs of making with the request as their object. "I can't
# help but smile", "I can't provide an exact figure", "I won't create suspense" are answers.
_EN_SORRY: Final = (
    r"(?:(?:i'm|i am) (?:very |so |really |truly |deeply )?(?:sorry|afraid)(?: that)?[,.]? ?(?:but )?|"
    r"(?:i )?apologi[sz]e[sd]?[,.]? ?(?:but )?|(?:my )?apologies[,.]? ?(?:but )?|sorry[,.]? ?(?:but )?|unfortunately[,.]? ?|"
    r"no[,.] |as an ai(?: language model| assistant)?[,.]? ?|thank(?:s| you)[^.!?\n]{0,60}[,.] ?(?:but |however,? )?|"
    r"i (?:understand|appreciate|see|know|realize)[^.!?\n]{0,120}(?:, but |[.;] however,? )){0,4}"  # bounded: its parts overlap
)
_EN_UNABLE: Final = (
    r"(?:can't|cannot|can not|won't be able to|will not be able to|won't|will not|am unable to|'m unable to|"
    r"am not able to|'m not able to|am not comfortable|'m not comfortable|must decline to|have to decline to|"
    r"am not allowed to|'m not allowed to|am not permitted to|'m not permitted to)"
    r"(?: and (?:will not|won't|should not|shouldn't))?(?:,? in good conscience,?)?"
)
_END: Final = r"(?= ?(?:$|[.,;:!?*]))"
_EN_THAT: Final = (
    r"(?:(?:that|this|these|those|it)(?: ?(?:$|[.,;:!?*])| (?:for|because|as|due|here)\b)|"
    r"(?:that|this|these|those|such|your|the requested)(?: (?:kinds?|types?|sorts?) of)?(?: [a-z-]{1,20})? ?"
    r"(?:requests?|questions?|prompts?|content|material|images?|information|instructions?|topics?|tasks?|queries|query)\b|"
    r"(?:any |specific |detailed |further |you (?:with )?(?:any |specific |detailed )?)?(?:medical |legal |financial |harmful )?"
    r"(?:instructions|information|advice|guidance|assistance|help|content|recommendations)\b|"
    r"medical\b|legal advice|you with (?:that|this)\b|you (?:that|this)" + _END + ")"
)
_EN_VERBS: Final = (
    rf"(?:help(?:ing)?(?:{_END}| (?:you|with|in|on|here|there|write|writing|create|make|anyone|people|users|out|if|because|as|by)\b)|"
    rf"assist(?:ing)?\b|comply(?:ing)?\b|fulfil+\b|do (?:that|this|it){_END}|accommodate\b|engage in\b|engage with\b|"
    rf"participate in\b|continue with\b|"
    rf"(?:provid(?:e|ing)|support|creat(?:e|ing)|generat(?:e|ing)|produce|writ(?:e|ing)|share|sharing|discuss|offer|answer|give|"
    rf"complete|respond to|process|tell you|describe|engage with) (?:{_EN_THAT}))"
)
_PATTERNS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        # English
        rf"{_EN_SORRY}i ?{_EN_UNABLE} (?:to )?{_EN_VERBS}",
        rf"{_EN_SORRY}(?:that's|this is|that is) (?:not )?something (?:that )?i (?:can't|cannot|won't|can|will|am not able to)\b",
        r"(?:(?:i'm|i am) (?:very )?sorry|sorry)[,.]? (?:but )?i (?:can't|cannot|won't|will not|must decline)\s*(?:\.|,|$| (?:do|with) (?:that|this))",
        rf"{_EN_SORRY}(?:i must|i have to|i need to|i'll have to) (?:respectfully |politely )?(?:decline|refuse)"
        rf"(?:{_END}| (?:to|this|that|your|the request|these|participation)\b)",
        rf"{_EN_SORRY}i (?:don't|do not) (?:have the ability to (?:help|assist)|feel comfortable (?:helping|assisting|providing|writing|creating|with)|"
        r"assist\b|engage in)",
        r"(?:this|that|your) request (?:goes against|is against|violates) (?:my|our|the) (?:\w+ )?(?:guidelines|policy|policies|programming)",
        # German
        r"(?:(?:es tut mir (?:sehr )?leid|tut mir leid|leider|entschuldigung)[,.]? ?(?:aber |doch )?)+"
        r"(?:ich kann|kann ich|ich darf|darf ich|dabei kann ich|damit kann ich|ich bin nicht in der lage|das kann ich|diese (?:anfrage|bitte) kann ich)"
        r"[^.,!?\n]{0,80}(?:nicht|keine?n?)\b[^.,!?\n]{0,80}(?:helfen|weiterhelfen|behilflich|unterstützen|beantworten|erfüllen|bereitstellen|erstellen|nachkommen|tun|geben)",
        r"(?:ich kann|dabei kann ich|damit kann ich) (?:dir |ihnen |euch )?(?:dabei |damit |hierbei )?(?:leider )?nicht (?:weiter)?helfen",
        r"(?:das|diese (?:frage|anfrage)) (?:kann|darf) ich (?:dir |ihnen )?(?:leider )?nicht (?:beantworten|erfüllen|tun)",
        # French
        r"(?:(?:je suis|je m'excuse|je regrette)[^.,!?\n]{0,30}(?:désolée?|navrée?)?[,.]? ?(?:mais )?|désolée?[,.]? ?(?:mais )?|malheureusement[,.]? ?)*"
        r"je (?:ne (?:peux|puis|suis pas en mesure|saurais)|refuse)[^.,!?\n]{0,40}(?:aider|assister|répondre à (?:cette|votre)|satisfaire|accéder à|participer|"
        r"(?:fournir|créer|écrire|donner|générer) (?:ce|cet|cette|ces|cela|ça|un tel|une telle|de tels?|de telles?|"
        r"(?:de |d'|des )?(?:contenu|informations?|conseils?|instructions?|détails))\b)",
        # Spanish
        r"(?:(?:lo siento|lo lamento|disculpa|lamentablemente|perdón)[,.]? ?(?:mucho[,.]? ?)?(?:pero )?)*"
        r"no (?:puedo|me es posible|estoy en condiciones de|soy capaz de) (?:ayudar|asistir|cumplir|responder a es[ae]|hacer eso|"
        r"(?:proporcionar(?:te|le)?|crear|generar|escribir|ofrecer(?:te|le)?) (?:es[aeo]s?|est[aeo]s?|dich[ao]s?|tal|contenido|información|instrucciones|consejos)\b)",
        # Italian
        r"(?:(?:mi (?:di)?spiace|spiacente|purtroppo|scusa)[,.]? ?(?:ma )?)*"
        r"non (?:posso|sono in grado di|mi è possibile) (?:aiutar|assister|soddisfar|risponder[ei] a quest|farlo|"
        r"(?:fornir(?:e|ti|le)|crear(?:e|ti)|generare|scrivere|offrir(?:e|ti)) (?:quest|quel|tale|tali|contenut|informazion|istruzion|consigl))",
        # Portuguese
        r"(?:(?:sinto muito|desculpe|lamento|infelizmente|me desculpe)[,.]? ?(?:mas )?)*"
        r"(?:eu )?não (?:posso|consigo|sou capaz de|estou apto a) (?:te |lhe |o )?(?:ajudar|ajudá|auxiliar|atender|responder a ess|fazer isso|"
        r"(?:fornecer|criar|gerar|escrever|oferecer) (?:ess[aei]s?|est[ae]s?|iss?to|isso|tais|tal|conteúdo|informações|instruções|conselhos)\b)",
        # Dutch
        r"(?:(?:het spijt me|sorry|helaas)[,.]? ?(?:maar )?)*"
        r"(?:ik kan|kan ik|daar kan ik|daarmee kan ik|hiermee kan ik)[^.,!?\n]{0,40}(?:niet|geen)\b[^.,!?\n]{0,60}(?:helpen|assisteren|voldoen|"
        r"(?:dat|dit|deze|informatie|instructies|inhoud|advies|hulp) (?:\w+ )?(?:verstrekken|geven|bieden|schrijven|maken))",
        # Polish
        r"(?:(?:przykro mi|przepraszam|niestety)[,.]? ?(?:ale )?)*"
        r"nie (?:mogę|jestem w stanie|potrafię) (?:ci |pani |panu |państwu |w tym |z tym )*(?:pomóc|pomagać|spełnić|tego zrobić|odpowiedzieć na to|"
        r"(?:udzielić|dostarczyć|stworzyć|napisać) (?:tego|takiego|takiej|takich|treści|informacji|instrukcji|porad)\b)",
        # Russian, Ukrainian
        r"(?:(?:извините|простите|к сожалению|мне (?:очень )?жаль|прошу прощения)[,.]? ?(?:но )?)*"
        r"я не (?:могу|в состоянии|имею возможности) (?:вам |тебе |с этим |в этом )*(?:помочь|помогать|выполнить|ответить на (?:этот|это)|помогу|"
        r"(?:предоставить|создать|написать) (?:вам )?(?:это|этот|эту|так|подобн|контент|инструкци|информаци))",
        r"(?:(?:вибачте|перепрошую|на жаль)[,.]? ?(?:але )?)*я не можу (?:вам |тобі |з цим )*(?:допомогти|виконати|(?:надати|створити|написати) (?:це|цей|так|інформаці|інструкці))",
        # Swedish, Norwegian, Danish, Finnish
        r"(?:(?:tyvärr|jag är ledsen|förlåt)[,.]? ?(?:men )?)*(?:jag kan|kan jag|det kan jag)(?: tyvärr)? inte[^.,!?\n]{0,30}(?:hjälpa|besvara|svara på det|uppfylla)",
        r"(?:(?:beklager|desværre|dessverre|undskyld)[,.]? ?(?:men )?)*(?:jeg kan|kan jeg|det kan jeg)(?: desværre| dessverre)? ikke[^.,!?\n]{0,30}(?:hj[æe]lpe|bistå|besvare|svare på det)",
        r"(?:(?:valitettavasti|anteeksi|pahoittelen)[,.]? ?(?:mutta )?)*(?:en|minä en) (?:voi|pysty)[^.,!?\n]{0,40}(?:auttaa|auttamaan|vastata tähän)",
        # Czech, Slovak
        r"(?:(?:omlouvám se|ospravedlňujem sa|bohužel|bohužiaľ|je mi líto)[,.]? ?(?:ale )?)*[^.,!?\n]{0,40}ne(?:mohu|můžu|môžem)[^.,!?\n]{0,20}(?:pomoci|pomoct|pomôcť)",
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
        # Vietnamese, Indonesian, Malay, Hindi, Hebrew
        r"(?:(?:rất tiếc|xin lỗi)[,.]? ?(?:nhưng )?)+[^.,!?\n]{0,20}không thể[^.,!?\n]{0,20}(?:giúp|hỗ trợ|cung cấp|trả lời)",
        r"(?:(?:maaf|mohon maaf)[,.]? ?(?:tetapi |tapi |namun )?)+(?:saya )?tidak (?:dapat|bisa|boleh)[^.,!?\n]{0,20}(?:membantu|memenuhi|memberikan|menyediakan)",
        r"(?:माफ़ कीजिए|माफ कीजिए|क्षमा करें|मुझे खेद है)[^।!?\n]{0,60}(?:मदद|सहायता|प्रदान)[^।!?\n]{0,20}(?:नहीं|असमर्थ)",
        r"(?:(?:אני )?(?:מצטערת?|מתנצלת?)[,.]? ?(?:אבל |אך )?)+אני לא (?:יכולה?|מסוגלת?) (?:לעזור|לסייע|לספק)",
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


def check(answer: Answer, chat: ChatRequest | None = None, task_type: TaskType | None = None) -> GateVerdict:
    """PASS, or FAIL with the kind of failure as the reason."""
    text = answer.message.text
    if answer.finish_reason is FinishReason.CONTENT_FILTER:
        return _fail("stopped by the provider's content filter")
    if answer.finish_reason is FinishReason.LENGTH:
        return _fail("cut at the output token limit")
    if answer.is_empty:
        return _fail("empty")
    refuses = not answer.message.tool_calls and is_refusal(text) and not _may_say_so(chat, task_type)
    if answer.refused or refuses:
        return _fail("a refusal")
    if _ALONE.fullmatch(text) or _MARK.search(text):
        return _fail("the model asked to escalate")
    return GateVerdict(gate=GATE, verdict=Verdict.PASS, reason="an answer")


def _may_say_so(chat: ChatRequest | None, task_type: TaskType | None) -> bool:
    """Whether the words of a refusal may be what was asked for."""
    if chat is None or task_type not in _WRITING:
        return False
    pieces = _PIECES.split(chat.last_user_text[-_REQUEST_CHARS_MAX:])[-_PIECES_MAX:]
    return any(is_refusal(piece) for piece in pieces)


def _fail(reason: str) -> GateVerdict:
    return GateVerdict(gate=GATE, verdict=Verdict.FAIL, reason=reason)
