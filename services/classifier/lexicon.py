"""The words and forms that heuristics look for: in English here, in ten other languages with `languages`.

Promises: patterns expect lower-case text; all are linear in its length, save PLAIN_ARITHMETIC and CODE_LINE, which are
for short texts only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from services.classifier import languages
from spillway.routing import TaskType

__all__ = [
    "ASKING",
    "CODE_FORMS",
    "CODE_LINE",
    "CONSTRAINTS",
    "CONTINUING",
    "DEEP_WORK",
    "DIRECT_QUESTION",
    "EASY",
    "EXPERT",
    "FOREIGN",
    "GREETING",
    "HARD",
    "MATH_FORMS",
    "NEGATED_EASY",
    "PASTED",
    "PLAIN_ARITHMETIC",
    "PROCESSING",
    "TASK_WORDS",
]


# Chinese and Japanese write no spaces, so a word may begin after any of their characters. Vowel signs of Hindi are no
# letters to `re`, and yet no word ends with them.
_WORD_BEGINS = r"(?<![^\W\u3040-\u30ff\u4e00-\u9fff])(?<![\u093a-\u094f])"


def _words(alternatives: str, elsewhere: str = "") -> re.Pattern[str]:
    """Any of the alternatives where a word begins; they are stems unless they end with a boundary.

    `elsewhere`: those of other languages.
    """
    return re.compile(rf"{_WORD_BEGINS}(?:{'|'.join(filter(None, (alternatives, elsewhere)))})")


# Verbs that open a task which works on a text given after a colon.
PROCESSING = re.compile(
    _WORD_BEGINS
    + r"(?:summar|tl;?dr|condense|shorten|boil|gist|recap|title|resum|zusammen|résum|extract|pull|list|find|"
    r"get|identify|turn|convert|classif|label|assign|sort|rate|decide|triage|is th|translat|traduc|tradui|übersetz|"
    r"rewrite|rephrase|paraphras|fix|correct|edit|reword|make|change|korrig|réécri|reescrib|put|return|collect|"
    rf"here is|here's|below is|what'?s|which|read|take|write|翻译|翻訳|总结|{languages.PROCESSING_WORDS})",
    re.IGNORECASE,
)
# A block of text that holds one of these asks for something.
ASKING = re.compile(
    _WORD_BEGINS
    + r"(?:please|tell me|explain|summar|tl;?dr|translat|rewrite|extract|classif|list|find|give|show|write|fix|"
    r"what|which|who|when|where|why|how|is there|does|can you|could you|based on|using the|according to|"
    rf"bitte|por favor|s'il|explique|resum|请|質問|question|{languages.ASKING_WORDS})",
    re.IGNORECASE,
)
# Words that announce pasted material.
PASTED = re.compile(
    _WORD_BEGINS
    + r"(?:pasted|below|here is|here are|here's|the following|attached|this (?:mail|text|page|thread|article)|"
    + rf"{languages.PASTED_WORDS})",
    re.IGNORECASE,
)
_GREETING_WORD = (
    r"(?:hi|hey|hello|yo|hiya|howdy|good (?:morning|afternoon|evening|night)|thanks?(?: you)?(?: so much| a lot)?|thx|"
    r"cheers|bye|goodbye|see you|lol|haha|ok(?:ay)?|great|cool|nice|hola|gracias|adiós|buen[oa]s (?:días|tardes|noches)"
    r"|bonjour|salut|merci|hallo|guten (?:tag|morgen|abend)|danke|ciao|grazie|olá|obrigad[oa]|привет|спасибо|你好|谢谢|"
    rf"こんにちは|ありがとう|안녕하세요|مرحبا|नमस्ते|{languages.GREETING_WORDS})"
)
_GREETING_TAIL = (
    r"(?:there|mate|everyone|all|again|how are you(?: today| doing)?|what'?s up|qué tal|wie geht'?s|wie geht es|ça va)"
)
# Words are held apart by what is no word, so no text can be read in two ways.
GREETING = re.compile(rf"[\W_]*{_GREETING_WORD}(?!\w)(?:[\W_]+(?:{_GREETING_WORD}|{_GREETING_TAIL})(?!\w))*[\W_]*")
EASY = _words(
    r"simpl[ey]|just|quick(?:ly)?|brief(?:ly)?|basic|easy|short|one[- ](?:line|word|sentence)|"
    r"in (?:a|one) (?:word|line|sentence)|yes or no|true or false|tl;?dr|gist|in two sentences|una frase|"
    r"einem satz|une phrase|kurz|rápid|simplement",
    languages.EASY_WORDS,
)
# "not simple", "not just", "isn't easy": the word says the opposite.
NEGATED_EASY = _words(
    r"(?:not|n't|isn'?t|never|no|hardly|more than|nicht|no es|pas)\s+(?:a\s+|an\s+|so\s+|that\s+|"
    r"very\s+|only\s+|just\s+)?(?:simpl[ey]|just|quick|easy|basic|brief|short)"
)
HARD = _words(
    r"complex|complicated|difficult|challenging|in[- ]depth|thorough|rigorous|comprehensive|exhaustive|"
    r"detailed|deep dive|advanced|systematic|step[- ]by[- ]step|carefully|ausführlich|detalladamente|"
    r"en détail|approfondi|详细",
    languages.HARD_WORDS,
)
DEEP_WORK = _words(
    r"prov(?:e|ing)\b|proof|deriv(?:e|ation)\b|show that|design\b|architect|implement|refactor|migrat|"
    r"optimi[sz]e|analy[sz]e|assess|evaluate|critically|critique|compare|contrast|synthes|reconstruct|"
    r"reconcil|recommend|justify|argue|weigh|trade[- ]?offs?|strateg|quantify|stress[- ]test|root cause|"
    r"second-order|to what extent|under (?:which|what) conditions|determine|distinguish|interplay|evidence|"
    r"discuss|annotate|investigate|model the|plan the|what would (?:change|make)|contradict|ambigu|resolve|"
    r"infer\b|restructure|beweise|untersuche|begründe|entwirf|demuestra|analiza|évalue|démontre|dimostra|证明|"
    r"分析|設計|证|докажи",
    languages.DEEP_WORDS,
)
EXPERT = _words(
    r"theorem|lemma|asymptotic|integral|eigen|hilbert|finite group|polynomial|galois|likelihood|estimand|"
    r"causal|bayesian|stochastic|random walk|generating function|compact|lock-free|deadlock|distributed|"
    r"consensus|concurren|raft\b|crdt|compiler|kernel|cuda|garbage collect|memory leak|idempoten|sharding|"
    r"shards|zero downtime|type checker|threat model|state machine|protocol|exactly-once|failover|"
    r"jurisdiction|jurisprudence|doctrine|liabilit|statut|treat(?:y|ies)|clause|contract|patent|compliance|"
    r"regulat|gdpr|judgment|litigation|deposition|differential diagnos|icd-10|trial|oncolog|pharmaco|radiolog|"
    r"epidemiolog|actuarial|taxonomy|equilibrium|game theor|monetary|econometric|mechanism|hypothes|phonology|"
    r"dissertation|thesis|sonnet|villanelle|iambic|alexandrine|unreliable narrator|leitmotif|superconduct|"
    r"quantum|crispr",
    languages.EXPERT_WORDS,
)
CONSTRAINTS = _words(
    r"must|at (?:most|least)|no more than|without|only|exactly|under \d+|within|keep(?:ing)?|preserv|"
    r"between \d+|not before|except|unless|while|but not|consistent|respect|"
    r"in the (?:style|manner|format|form)|using|as json|as csv|below \d+|\d+ (?:words|characters|lines)|ohne|"
    r"mindestens|höchstens|sin \w+r\b|sans|au moins|manteniendo|en gardant|必须",
    languages.CONSTRAINT_WORDS,
)
# Where the asking word stands late in a sentence: Chinese, Japanese, Hindi.
_LATE = r"[^\n]{1,40}?(?:何|誰|いつ|どこ|哪|是谁|多少|几|什么|क्या|कौन|कब|कहाँ|कहां|कितन)[^\n]{0,16}[?？]\s*$"
DIRECT_QUESTION = re.compile(
    rf"{_LATE}|"
    r"[\W_]*(?:who(?:'s| is| was| wrote| painted| invented)?|what(?:'s| is| are| was| does| do| year| comes)|when|"
    r"where(?:'s)?|which|how (?:many|much|tall|old|far|long|big|do (?:you|i) say|to|do i)|is|are|does|do|can i|"
    rf"{languages.DIRECT_WORDS})(?![\w\u093a-\u094f])"
)
PLAIN_ARITHMETIC = re.compile(
    r"[\W_]*(?:what(?:'s| is)|calculate|compute|how much is|solve|was ist|cuánto es|combien font|quanto fa)?[\s:]*"
    r"[-+]?\d[\d.,]{0,12}\s?%?\s?(?:[-+*/x×÷^]|plus|minus|times|of|divided by|geteilt durch|mal|por|por ciento de)\s?"
    r"[-+]?\d[\d.,]{0,12}\s*[=?.!]*\s*"
)
CODE_FORMS = re.compile(
    r"(?<!\w)def \w+\(|(?<!\w)class \w+[:({]|function\s?\w*\(|=>|(?<!\w)import \w+|#include|select\s.{1,40}\sfrom\s|"
    r"console\.log|print(?:ln)?!?\(|return\s\w|\);|\{\n|(?<!\w)(?:let|const|var) \w+ ?=|\w\(\w*\)|`[^`\n]{2,80}`|</\w+>"
)
# A whole line of program text: a keyword or an indented statement, and punctuation that prose does not end with.
CODE_LINE = re.compile(
    r"[ \t]*(?:(?:def|class|if|elif|else|for|while|with|try|except|switch|function|public|private|func?)\b[^\n]*[:{]$|"
    r"(?:return|assert|print|#include|using)\b[^\n]*[=()\[\]{}<;]|import \w+(?: as \w+)?$|from \w+ import |"
    r"(?:const|let|var) \w+ ?[:=]|[})\]]+[;,]?$)|"
    r"[ \t]{2,}(?:return\b|[\w.\[\]'\", ]{1,80}(?:[-+*/|&]?= |\())|[^\n]*[=()\[\]][^\n]*;$|[^\n]*\{$"
)
MATH_FORMS = re.compile(
    r"\\(?:frac|sum|int|sqrt|begin|cdot|leq|geq|mathbb)|\$[^$\n]{1,200}\$|[a-z]\s?\^\s?\d|\d\s?[+*/=^]\s?[\da-z]|"
    r"\d - \d|(?<!\w)[a-z]\s?[=<>≥≤]\s?[\d-]|[∑∫√∞≤≥≠∈∀∃π∩∪]|(?<!\w)f\([a-z]\)|(?<!\w)x\s?[-+]\s?\d"
)
# Frequent words of other languages that use the Latin alphabet.
FOREIGN = _words(
    r"(?:el|la|los|las|una|que|por|para|con|está|cómo|le|les|des|une|est|dans|pour|avec|der|die|das|"
    r"und|ist|nicht|ein|eine|mit|für|il|che|di|della|per|sono|um|uma|não|os|het|een|niet|voor|jest|się|nie|bir|için|och|att)(?!\w)"
)

# A short turn that begins so goes on with what was said before.
CONTINUING = re.compile(
    r"[\W_]*(?:and\b|but\b|why\b|how so|what about|how about|now\b|again\b|then\b|so\b|or\b|also\b|same\b|the same|"
    r"instead|continue|go on|keep going|more\b|another|try again|in (?:python|english|french|german|spanish|one|two)\b|"
    r"shorter|longer|simpler|as a|with\b|without\b|"
    rf"{languages.CONTINUING_WORDS})"
)

TASK_WORDS: Mapping[TaskType, re.Pattern[str]] = {
    TaskType.SUMMARIZATION: _words(
        r"summar|tl;?dr|condense|recap|gist|shorten this to|executive summary|minutes|boil |distil|synthes|"
        r"key points|resum[ei]|résum|zusammenfass|fasse |总结|要約|in two sentences|one[- ]line",
        languages.TASK_WORDS_BY_TYPE[TaskType.SUMMARIZATION],
    ),
    TaskType.EXTRACTION: _words(
        r"extract|extrai|extrae|pull .{0,40}(?:out|from)|from this (?:receipt|text|mail|page)|as json|"
        r"json array|list (?:the|every|all)|find all|collect all|what is the .{1,20} in this|parse\b|"
        r"in this text|line items|action items|identify the (?:people|names)|mine the|get the",
        languages.TASK_WORDS_BY_TYPE[TaskType.EXTRACTION],
    ),
    TaskType.CLASSIFICATION: _words(
        r"classif|categor|label|sentiment|positive or negative|spam|yes or no|true or false|triage|"
        r"which .{1,30} queue|one of (?:the|our|these)|good or bad|assign each|sort these|reading level|"
        r"sarcastic|is this .{1,40} or |ordne |clasific|rate the|taxonomy",
        languages.TASK_WORDS_BY_TYPE[TaskType.CLASSIFICATION],
    ),
    TaskType.REWRITING: _words(
        r"rewrite|rephrase|paraphras|reword|grammar|spelling|correct this|correct the|make (?:this|it) \w+|"
        r"polite|shorter|past tense|plain english|edit (?:my|the)|redraft|rework|recast|third person|plural|"
        r"lowercase|uppercase|tone|korrigiere|réécris|überarbeite|say this|turn (?:my|these|this)|"
        r"into (?:active|passive)|restructure",
        languages.TASK_WORDS_BY_TYPE[TaskType.REWRITING],
    ),
    TaskType.TRANSLATION: _words(
        r"translat|übersetz|tradui|traduc|traduz|翻译|翻訳|перевед|how do (?:you|i) (?:say|write)|"
        r"in(?:to)? (?:french|german|spanish|italian|japanese|chinese|russian|dutch|portuguese|arabic|"
        r"korean|polish|turkish)|(?:french|german|spanish|italian|russian|dutch) (?:word )?for|locali[sz]e|"
        r"mean in english|subtitle",
        languages.TASK_WORDS_BY_TYPE[TaskType.TRANSLATION],
    ),
    TaskType.CODE: _words(
        r"python|javascript|typescript|java\b|c\+\+|rust\b|golang|in go\b|sql\b|bash|regex|function\b|code\b|"
        r"script\b|docker|git\b|api\b|react\b|css\b|html\b|class\b|unit tests?|compile|bug\b|refactor|"
        r"implement|endpoint|exception|array|algorithm|null pointer|stack ?trace|kernel|queue in|flexbox|"
        r"postgres|kafka|php\b|función en|program|return\b",
        languages.TASK_WORDS_BY_TYPE[TaskType.CODE],
    ),
    TaskType.MATH: _words(
        r"solve|calculate|compute|equation|derivative|integral|prove|probability|theorem|square root|factor\b|"
        r"percent|%|how (?:much|many)|area of|sum of|triangle|prime|divided by|matrix|polynomial|remainder|"
        r"converges?|real numbers|integers?|perimeter|beweise|cuánto es|doppio|round \d|squared|expand|"
        r"let .{1,20} be|show that|half of|median|functions? f\b|dollars|each\b",
        languages.TASK_WORDS_BY_TYPE[TaskType.MATH],
    ),
    TaskType.REASONING: _words(
        r"should (?:i|we|a|our)|compare|pros and cons|which (?:one|is (?:better|cheaper|heavier|safer))|"
        r"plan\b|what (?:would|are the likeliest)|why (?:did|does) (?:our|my)|analy[sz]e|assess|strateg|"
        r"if all|taller|older|younger|shortest|comes (?:next|after)|next in|odd one out|puzzle|lies|"
        r"decide whether|recommend|argument|scenario|evaluate|trade[- ]?off|causes|decision|evalua|évalue|"
        r"lernplan|design an experiment|deduc|how do you measure|critically",
        languages.TASK_WORDS_BY_TYPE[TaskType.REASONING],
    ),
    TaskType.CREATIVE: _words(
        r"poem|haiku|limerick|story|slogan|joke|rhyme|pun\b|song|lyrics|sonnet|caption|tagline|invent|make up|"
        r"come up with|compose|toast|dialogue|name (?:for|my)|nickname|a name|novel|play for|imagine|fantasy|"
        r"myth|birthday wish|product copy|verse|poème|cuento|microcuento|erfinde|gedicht|schreibe eine|satir|"
        r"libretto|villanelle|letter from|frase bonita",
        languages.TASK_WORDS_BY_TYPE[TaskType.CREATIVE],
    ),
    TaskType.FACTUAL_QA: _words(
        r"who (?:is|was|wrote|painted|were)|what (?:is|are|does|was|year|do)|when (?:did|was|does)|where is|"
        r"capital|how (?:does|do|tall|old|far|many)|difference between|why (?:did|do|does|is)|currency|"
        r"which (?:planet|country|city|month|vitamins)|explain (?:what|how|the|competing)|evidence|stand for|"
        r"hauptstadt|capitale|cuál|cuánt|quién|quem|combien|unterschied|pourquoi|largest",
        languages.TASK_WORDS_BY_TYPE[TaskType.FACTUAL_QA],
    ),
    TaskType.CHITCHAT: _words(
        r"how are you|chat\b|talk (?:with|to) me|cheer me|i feel|feeling|lonely|pretend|keep me company|"
        r"small talk|bored|weekend|my (?:cat|dog|day|friend|father|twin|best friend)|be the voice|what'?s up|"
        r"nice to meet|tell me about your|how would you feel|roleplay",
        languages.TASK_WORDS_BY_TYPE[TaskType.CHITCHAT],
    ),
    TaskType.OTHER: _words(
        r"remind me|set (?:a|up)|play \w+|open the|cancel|turn o(?:n|ff)|timer|volume|book a|order (?:the|my)|"
        r"from now on|act as|be my|check my|my calendar|quiz me|checklist|stop\b|start over|continue|repeat|"
        r"human|packing list|log these|test\b|serve as|take over|coordinate|prepare me|run (?:a|our)",
        languages.TASK_WORDS_BY_TYPE[TaskType.OTHER],
    ),
}
