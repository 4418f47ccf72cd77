"""The choice of passages for a question, where the files are longer than the budget."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine

from app.ids import new_id
from tests.factories import LoggedInUser
from tests.fakes.upstream import Upstream
from tests.file_texts import store_text

BUDGET = 3000
FILLER = "The committee met and the members of the committee talked about what is and what was in the agenda. " * 8


@pytest.fixture(scope="module")
def chat_app(make_chat_app: Callable[..., Flask]) -> Flask:
    return make_chat_app(files={"context_chars": BUDGET})


@pytest.fixture
def attach(client: FlaskClient, engine: Engine, user: LoggedInUser) -> Callable[..., str]:
    def attach(*passages: str, name: str = "long.txt", page: int | None = None) -> str:
        content = new_id().bytes.hex().encode()
        response = client.put("/api/files", query_string={"name": name}, data=content, headers=user.headers)
        file_id = str(response.json["id"])
        store_text(engine, user, file_id, passages, page)
        return file_id

    return attach


def sent(upstream: Upstream) -> str:
    return str(upstream.requests[-1].body["messages"][-1]["content"])


@pytest.mark.parametrize(
    ("question", "passage"),
    [
        ("What is the notice period of the contract?", "Notice must be given three months before."),
        ("Which codes do the heating engineers use?", "The code of the engineer who heated the hall is 4711."),
        ("Wie lange ist die Kündigungsfrist?", "Die Kündigungsfristen betragen drei Monate."),
        ("Wer macht die Wärmepumpenwartung?", "Die Wärmepumpe prüft Herr Müller."),
        ("这份合同的终止期限是多少?", "合同可以提前三个月终止。"),
        ("解約の期間は何か月ですか", "契約は三か月前の通知で解約できます。"),
        ("ما هي مدة العقد؟", "تبلغ مدة عقد الإيجار ثلاثة أشهر."),
        ("สัญญาเช่ายกเลิกได้เมื่อไร", "สัญญาเช่ายกเลิกได้ล่วงหน้าสามเดือน"),
        ("Какой срок у договора?", "Договоры имеют сроком три месяца."),
        ("계약 해지 기간은?", "계약은 석 달 전에 해지할 수 있습니다."),
        ("Where is getUserName defined?", "The method getUserName is in accounts.py."),
    ],
)
def test_passage_that_matches_the_question_is_found(
    chat: Callable[..., Any], attach: Callable[..., str], upstream: Upstream, question: str, passage: str
) -> None:
    file_id = attach(*[FILLER] * 20, passage, *[FILLER] * 20)
    response = chat(question, files=[file_id])
    assert f'"long.txt", passage 21]\n{passage}\n' in sent(upstream)
    [citation] = response.json["message"]["metadata"]["citations"]
    assert citation["passages"][0] == 1  # how an attached file begins
    assert 21 in citation["passages"]
    assert citation["passages"] == sorted(citation["passages"])
    assert citation["characters"] <= BUDGET
    assert len(sent(upstream)) < BUDGET + 1000


def test_passages_around_a_match_are_shown_in_order(
    chat: Callable[..., Any], attach: Callable[..., str], upstream: Upstream
) -> None:
    file_id = attach("Beginning.", *[FILLER] * 9, "Before.", "The quokka is here.", "After.", *[FILLER] * 9, page=1)
    citations = chat("Where is the quokka?", files=[file_id]).json["message"]["metadata"]["citations"]
    assert {11, 12, 13} <= set(citations[0]["passages"])
    assert {1, 11, 12, 13} <= set(citations[0]["pages"])
    text = sent(upstream)
    assert text.index("Before.") < text.index("The quokka") < text.index("After.")
    assert "The files have more text than is shown" in text


def test_question_without_a_match_gets_the_first_passages(
    chat: Callable[..., Any], attach: Callable[..., str], upstream: Upstream
) -> None:
    files = [attach(*[f"{letter} {FILLER}"] * 20, name=f"{letter}.txt") for letter in "ab"]
    citations = chat("Xyzzy?", files=files).json["message"]["metadata"]["citations"]
    assert [citation["passages"] for citation in citations] == [[1, 2], [1]]


def test_only_files_of_the_user_are_searched(
    chat: Callable[..., Any],
    attach: Callable[..., str],
    upstream: Upstream,
    client: FlaskClient,
    engine: Engine,
    other_user: LoggedInUser,
) -> None:
    content = new_id().bytes.hex().encode()
    foreign = client.put("/api/files", query_string={"name": "f.txt"}, data=content, headers=other_user.headers)
    store_text(engine, other_user, foreign.json["id"], ["The quokka is abroad."])
    chat("Where is the quokka?", files=[attach(*[FILLER] * 20, "The quokka is here.")])
    assert "The quokka is here." in sent(upstream)
    assert "abroad" not in sent(upstream)


@pytest.mark.parametrize("question", ["'", "\\", "a & b | !c", ":*", "😀", "' OR 1=1 --", "x" * 9000, "字" * 9000])
def test_any_question_is_answered(chat: Callable[..., Any], attach: Callable[..., str], question: str) -> None:
    assert chat(question, files=[attach(*[FILLER] * 20)]).status_code == 200


def test_more_files_than_are_shown(chat: Callable[..., Any], attach: Callable[..., str], upstream: Upstream) -> None:
    names = [f"{number}-{'n' * 240}.txt" for number in range(10)]
    files = [attach("Some text.", name=name) for name in names]
    response = chat("Anything?", files=files)
    assert response.status_code == 200
    cited = response.json["message"]["metadata"]["citations"]
    assert 0 < len(cited) < 10
    assert sent(upstream).count("is not shown: none of its text was chosen") == 10 - len(cited)
