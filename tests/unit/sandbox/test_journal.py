"""Rules of the journal."""

from services.sandbox.journal import CALLS_MAX, PARAMETERS_BYTES_MAX, TEXT_CHARS_MAX, Journal
from services.sandbox.wire import Call, Message


def call(*texts: str) -> Call:
    messages = tuple(Message("user", text) for text in texts)
    return Call("m", messages, stream=False, tools_json="", parameters={"seed": 1})


def test_the_journal_keeps_the_newest_calls_in_order() -> None:
    journal = Journal()
    for _ in range(CALLS_MAX + 2):
        journal.open("openai", call("hi"), {}, 10)
    seqs = [record["seq"] for record in journal.body()["calls"]]
    assert (len(seqs), seqs[0], seqs[-1]) == (CALLS_MAX, 3, CALLS_MAX + 2)


def test_long_texts_are_cut_and_large_parameters_are_not_kept() -> None:
    record = Journal().open("openai", call("a" * (TEXT_CHARS_MAX - 1), "bcd", "e"), {}, PARAMETERS_BYTES_MAX + 1)
    assert [len(message.text) for message in record.messages] == [TEXT_CHARS_MAX - 1, 1, 0]
    assert record.parameters == {}
    assert Journal().open("openai", call("hi"), {}, PARAMETERS_BYTES_MAX).parameters == {"seed": 1}


def test_a_call_is_kept_with_the_time_of_its_arrival() -> None:
    journal = Journal(lambda: 1_700_000_000.5)
    journal.open("openai", call("hi"), {}, 10)
    assert journal.body()["calls"][0]["received_at_unix_s"] == 1_700_000_000.5


def test_no_credential_is_kept() -> None:
    headers = {"authorization": "Bearer s", "x-api-key": "s", "api-key": "s", "cookie": "s", "accept": "*/*"}
    assert Journal().open("openai", call("hi"), headers, 10).headers == {"accept": "*/*"}
