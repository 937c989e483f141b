"""Ten other languages: kinds of work, hard work, easy questions, greetings, pasted material."""

from __future__ import annotations

import itertools

import pytest

from services.classifier.turn import split_turn
from spillway.routing import TaskType
from tests.unit.classifier.words import kind, of

LANGUAGES = ("de", "fr", "es", "pt", "it", "zh", "ja", "ru", "ar", "hi")

# In the order of LANGUAGES.
KINDS = {
    TaskType.TRANSLATION: (
        "Übersetze ins Englische: Der Zug fährt um acht.",
        "Comment dit-on « pomme » en anglais ?",
        "Traduce al francés: mañana llueve",
        "Traduza para o inglês: o gato dorme",
        "Traduci in inglese: domani piove",
        "请把下面的句子翻译成英文：我喜欢喝茶。",
        "次の文を英語に翻訳してください：今日は雨です。",
        "Переведи на английский: завтра будет дождь",
        "ترجم هذه الجملة إلى الإنجليزية: أحب القهوة",
        "इस वाक्य का अंग्रेज़ी में अनुवाद करो: मुझे चाय पसंद है",
    ),
    TaskType.SUMMARIZATION: (
        "Fasse den folgenden Bericht in drei Sätzen zusammen",
        "Résume cet article en quelques lignes",
        "Resume este artículo en tres frases",
        "Resuma este relatório em poucas palavras",
        "Riassumi questo articolo in tre righe",
        "请总结下面这篇文章",
        "この記事を三行で要約してください",
        "Кратко изложи эту статью",
        "لخص هذا المقال في ثلاث جمل",
        "इस लेख का सारांश लिखिए",
    ),
    TaskType.CODE: (
        "Schreibe eine Python-Funktion, die eine Liste umdreht",
        "Écris une fonction en Python qui inverse une liste",
        "Escribe una función en Python que invierta una lista",
        "Escreva uma função em Python que inverta uma lista",
        "Scrivi una funzione in Python che inverta una lista",
        "写一个反转列表的Python函数",
        "リストを逆順にするPythonの関数を書いてください",
        "Напиши функцию на Python, которая переворачивает список",
        "اكتب دالة بلغة بايثون تعكس قائمة",
        "सूची को उलटने वाला पायथन फ़ंक्शन लिखो",
    ),
    TaskType.MATH: (
        "Löse die Gleichung 3x + 5 = 20",
        "Résous l'équation 3x + 5 = 20",
        "Resuelve la ecuación 3x + 5 = 20",
        "Resolva a equação 3x + 5 = 20",
        "Risolvi l'equazione 3x + 5 = 20",
        "求解方程 3x + 5 = 20",
        "方程式 3x + 5 = 20 を解いてください",
        "Реши уравнение 3x + 5 = 20",
        "حل المعادلة 3x + 5 = 20",
        "समीकरण 3x + 5 = 20 हल करो",
    ),
    TaskType.CREATIVE: (
        "Schreibe ein Gedicht über den Herbst",
        "Écris un poème sur l'automne",
        "Escribe un poema sobre el otoño",
        "Escreva um poema sobre o outono",
        "Scrivi una poesia sull'autunno",
        "写一首关于秋天的诗",
        "秋についての詩を書いてください",
        "Напиши стихотворение об осени",
        "اكتب قصيدة عن الخريف",
        "शरद ऋतु पर एक कविता लिखो",
    ),
    TaskType.FACTUAL_QA: (
        "Wer hat die Zauberflöte komponiert?",
        "Qui a écrit Les Misérables ?",
        "¿Quién pintó Las Meninas?",
        "Quem escreveu Os Lusíadas?",
        "Chi ha scritto la Divina Commedia?",
        "长城有多长？什么时候建的？",
        "東京タワーの高さは何メートルですか？いつ建てられた？",
        "Кто написал «Войну и мир»?",
        "ما هي عاصمة المغرب؟",
        "ताजमहल किसने और कब बनवाया?",
    ),
    TaskType.CLASSIFICATION: (
        "Ist diese Bewertung positiv oder negativ? Das Essen war kalt.",
        "Cet avis est-il positif ou négatif ? Le repas était froid.",
        "¿Esta reseña es positiva o negativa? La comida estaba fría.",
        "Esta avaliação é positiva ou negativa? A comida estava fria.",
        "Questa recensione è positiva o negativa? Il cibo era freddo.",
        "这条评论是正面还是负面？菜是凉的。",
        "このレビューはポジティブですか、ネガティブですか？料理が冷たかった。",
        "Этот отзыв положительный или отрицательный? Еда была холодной.",
        "هل هذا التعليق إيجابي أم سلبي؟ كان الطعام باردا",
        "यह समीक्षा सकारात्मक या नकारात्मक है? खाना ठंडा था।",
    ),
}
HARD = (
    "Beweise, dass es unendlich viele Primzahlen gibt, und vergleiche ausführlich drei Beweise; begründe alles.",
    "Démontre qu'il existe une infinité de nombres premiers, compare en détail trois preuves et justifie chacune.",
    "Demuestra que hay infinitos números primos, compara en detalle tres demostraciones; justifica cada paso.",
    "Demonstre que há infinitos números primos, compare detalhadamente três provas e justifique cada passo.",
    "Dimostra che esistono infiniti numeri primi, confronta in modo approfondito tre prove e giustifica ogni passo.",
    "请证明素数有无穷多个，详细比较三种不同的证明方法，分析各自的优缺点，并且必须论证每一步。",
    "素数が無限に存在することを証明し、三つの証明を詳しく比較して、それぞれの長所と短所を分析しなさい。必ず各段階を論じること。",
    "Докажи, что простых чисел бесконечно много, подробно сравни три доказательства и обоснуй каждый шаг.",
    "أثبت أن الأعداد الأولية لا نهائية، ثم قارن بالتفصيل بين ثلاثة براهين وعلل كل خطوة وناقش حدودها",
    "सिद्ध कीजिए कि अभाज्य संख्याएँ अनंत हैं, तीन प्रमाणों की विस्तार से तुलना कीजिए और हर चरण का विश्लेषण कीजिए।",
)
EASY = (
    "Was ist die Hauptstadt von Peru?",
    "Quelle est la capitale du Pérou ?",
    "¿Cuál es la capital de Perú?",
    "Qual é a capital do Peru?",
    "Qual è la capitale del Perù?",
    "秘鲁的首都是哪里？",
    "ペルーの首都はどこですか？",
    "Какая столица Перу?",
    "ما هي عاصمة بيرو؟",
    "पेरू की राजधानी क्या है?",
)
GREETINGS = (
    "Guten Tag!",
    "Bonsoir, merci beaucoup !",
    "¡Buenas! ¿Qué tal?",
    "Oi, bom dia!",
    "Buongiorno!",
    "早上好，谢谢你",
    "おはようございます",
    "Здравствуйте! Как дела?",
    "السلام عليكم",
    "नमस्ते, आप कैसे हैं?",
)
# A sentence to fill a pasted text with, and a simple question about it.
PASTED = (
    ("Der Stadtrat analysierte die Strategie und bewies ausführlich den Satz.", "Wer hat das geschrieben?"),
    ("Le conseil a analysé la stratégie et démontré en détail le théorème.", "Qui a écrit ce texte ?"),
    ("El consejo analizó la estrategia y demostró en detalle el teorema.", "¿Quién escribió esto?"),
    ("O conselho analisou a estratégia e demonstrou em detalhe o teorema.", "Quem escreveu isto?"),
    ("Il consiglio analizza la strategia e dimostra nel dettaglio il teorema.", "Chi ha scritto questo testo?"),
    ("委员会详细分析了策略并证明了这个定理。", "这是谁写的？"),
    ("委員会は戦略を詳しく分析し、定理を証明した。", "これは誰が書きましたか？"),
    ("Совет подробно проанализировал стратегию и доказал теорему.", "Кто это написал?"),
    ("حلل المجلس الاستراتيجية بالتفصيل وأثبت النظرية.", "من كتب هذا النص؟"),
    ("परिषद ने रणनीति का विस्तार से विश्लेषण किया और प्रमेय सिद्ध किया।", "यह किसने लिखा?"),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(text, expected, id=f"{expected}-{language}")
        for expected, texts in KINDS.items()
        for language, text in zip(LANGUAGES, texts, strict=True)
    ],
)
def test_the_kind_of_work_is_read_in_each_language(text: str, expected: TaskType) -> None:
    assert kind(of(text)) is expected


@pytest.mark.parametrize("text", HARD, ids=LANGUAGES)
def test_hard_work_is_told_from_easy_in_each_language(text: str) -> None:
    judgement = of(text)
    assert max(judgement.probabilities) == judgement.probabilities[2]
    names = {signal.name for signal in judgement.signals}
    assert "deep_work_words" in names


@pytest.mark.parametrize("text", EASY, ids=LANGUAGES)
def test_a_direct_question_is_simple_in_each_language(text: str) -> None:
    judgement = of(text)
    assert max(judgement.probabilities) == judgement.probabilities[0]
    assert kind(judgement) is TaskType.FACTUAL_QA


@pytest.mark.parametrize("text", GREETINGS, ids=LANGUAGES)
def test_a_greeting_is_simple_chitchat_in_each_language(text: str) -> None:
    judgement = of(text)
    assert judgement.probabilities[0] > 0.9
    assert kind(judgement) is TaskType.CHITCHAT


@pytest.mark.parametrize("joint", ["\n\n", "\n\n\n"])
@pytest.mark.parametrize(("sentence", "question"), PASTED, ids=LANGUAGES)
def test_a_simple_question_about_a_long_text_is_simple_in_each_language(
    sentence: str, question: str, joint: str
) -> None:
    text = (sentence + " ") * 40
    for turn in (f"{text}{joint}{question}", f"{question}{joint}{text}"):
        assert split_turn(turn).question == question
        judgement = of(turn)
        assert max(judgement.probabilities) == judgement.probabilities[0]


@pytest.mark.parametrize("language", ["zh", "ja"])
def test_one_long_paragraph_without_spaces_is_taken_apart(language: str) -> None:
    sentence, question = PASTED[LANGUAGES.index(language)]
    assert split_turn(sentence * 40 + question).question == question


@pytest.mark.parametrize(
    ("text", "payload"),
    [
        ("把下面的话翻译成英文：我明天早上要去北京开会。", "我明天早上要去北京开会。"),
        ("次の文を要約してください：会議は三時に延期されました。", "会議は三時に延期されました。"),
    ],
)
def test_what_follows_a_wide_colon_is_the_payload(text: str, payload: str) -> None:
    assert split_turn(text).context == payload


def test_accents_may_be_written_apart() -> None:
    assert kind(of("E\u0301cris un poe\u0300me sur la mer")) is TaskType.CREATIVE


@pytest.mark.parametrize(("first", "second"), list(itertools.pairwise(EASY)))
def test_two_languages_in_one_turn_are_judged(first: str, second: str) -> None:
    judgement = of(f"{first} {second}")
    assert sum(judgement.probabilities) == pytest.approx(1.0)
    assert kind(judgement) is TaskType.FACTUAL_QA
