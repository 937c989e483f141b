"""What is asked about today or about oneself is told by its words; how something is done is not."""

from __future__ import annotations

import pytest

from services.cache.topicality import READ_CHARS_MAX, is_personal, is_time_sensitive


@pytest.mark.parametrize(
    "question",
    [
        "What's the weather today?",
        "what is the LATEST version of Python",
        "What is the current price of gold?",
        "Who is currently the president of France?",
        "What time is it in Tokyo?",
        "Who won the match last night?",
        "What is the time?",
        "what's the date",
        "What is the weather like in Oslo?",
        "What's the time in Tokyo",
        "What is the newest iPhone?",
        "How do I get the latest news?",
        "How do I install the latest stable version of Node?",
        "What is the price of gold?",
        "USD to EUR",
        "Convert 100 usd into gbp.",
        "Wie ist das Wetter heute in Berlin?",
        "Quel est le taux de change aujourd’hui ?",
        "¿Quién gobierna actualmente en Perú?",
        "Che tempo fa oggi?",
        "Qual é a cotação hoje?",
        "Wat is het nieuws van vandaag?",
        "Jaka jest dziś pogoda?",
        "Какая сегодня погода?",
        "今天天气怎么样？",
        "最新のiPhoneは？",
    ],
)
def test_what_holds_only_now_is_time_sensitive(question: str) -> None:
    assert is_time_sensitive(question)


@pytest.mark.parametrize(
    "question",
    [
        "What is the capital of France?",
        "What is the actual meaning of life?",
        "How does an electric current flow?",
        "Explain alternating current.",
        "When did the Second World War end?",
        "What is a todayness fallacy?",
        "What is the time complexity of quicksort?",
        "What is the date format in SQL?",
        "What is the time limit for an appeal?",
        "What is the time zone of Chile?",
        "What's the weather station made of?",
        "How do I delete duplicate rows but keep the newest?",
        "Delete duplicates and keep the most recent in SQL",
        "Sort by most recent in SQL",
        "How do I exchange USD to EUR in the app?",
        "What is the price of a gold membership?",
        "Wie funktioniert eine Wärmepumpe?",
        "Qu'est-ce que la photosynthèse ?",
        "",
    ],
)
def test_what_holds_always_is_not_time_sensitive(question: str) -> None:
    assert not is_time_sensitive(question)


@pytest.mark.parametrize(
    "question",
    [
        "Where is my order?",
        "What's my account balance?",
        "Has my refund been sent?",
        "Tell me the status of order #48213",
        "Write to jane.doe@example.com that we are late",
        "What is my name?",
        "What is my role?",
        "Where is my heart rate monitor order?",
        "Is 4111 1111 1111 1111 still blocked?",
        "Is 4111-1111-1111-1111 still blocked?",
        "Has DE89 3704 0044 0532 0130 00 been credited?",
        "Has GB82WEST12345698765432 been credited?",
        "Wo ist meine Bestellung?",
        "Où est ma commande ?",
        "¿Dónde está mi pedido?",
        "Dov'è il mio pacco? Qual è il mio saldo?",
        "Onde está minha encomenda?",
        "Waar is mijn pakket?",
        "Gdzie jest moja przesyłka?",
        "Где мой заказ?",
        "我的订单在哪里？",
        "私の注文はどこですか",
    ],
)
def test_ones_own_matters_are_personal(question: str) -> None:
    assert is_personal(question)


@pytest.mark.parametrize(
    "question",
    [
        "How do I close my account?",
        "Hi, how can I change my booking?",
        "Can I cancel my order?",
        "How do I turn on the heater?",
        "What is my role as a juror?",
        "What are my rights if a flight is late?",
        "Where is my pancreas?",
        "Where is my liver located?",
        "Is an rj45 plug the same size as an rj11 plug?",
        "What date is 1609459200000?",
        "What is 1234567890 divided by 3?",
        "Why was Executive Order 9066 constitutional?",
        "What is the order of operations?",
        "Wie kann ich mein Konto löschen?",
        "In order to win, what must a player do?",
        "",
    ],
)
def test_what_is_the_same_for_all_is_not_personal(question: str) -> None:
    assert not is_personal(question)


def test_a_long_text_is_read_at_both_ends_only() -> None:
    filler = "The committee met and decided. " * 100
    assert not is_time_sensitive(f"Summarize this. {filler} It rains today. {filler}")
    assert is_time_sensitive(f"{filler} What is the weather today?")
    assert is_personal(f"Where is my order? {filler}")
    assert len(filler) > READ_CHARS_MAX
