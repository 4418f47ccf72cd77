"""Search in archived conversations, whose messages are in bundles."""

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from app.services.search_index import index_conversation
from tests.bundling import archive_all, make_idle, storage_state
from tests.factories import LoggedInUser

URL = "/api/conversations"


def test_bundled_conversation_is_found_with_its_hit(
    flask_app: Flask, client: FlaskClient, engine: Engine, user: LoggedInUser
) -> None:
    messages = [{"role": "user", "content": f"message {n}"} for n in range(1, 40)]
    messages[20]["content"] = "the 机器学习 needle"
    conversation = make_idle(engine, user, messages, title="old")
    archive_all(flask_app)
    assert storage_state(engine, conversation)[1] == "bundled"
    for q in ("needle", "机器学习"):
        [item] = client.get(URL, query_string={"q": q, "status": "all"}, headers=user.headers).json["items"]
        assert (item["hit"]["position"], item["hit"]["message_id"]) == (21, f"{conversation}.21")


def test_documents_of_other_rules_are_written_again_from_the_bundle(
    flask_app: Flask, engine: Engine, user: LoggedInUser
) -> None:
    conversation = make_idle(engine, user, [{"role": "user", "content": "kept words"}], title="before")
    archive_all(flask_app)
    parameters = {"c": conversation}
    with engine.begin() as connection:
        connection.execute(text("UPDATE conversation_search SET rules = 0 WHERE conversation_id = :c"), parameters)
        connection.execute(text("UPDATE search_documents SET document = 'x' WHERE conversation_id = :c"), parameters)
        connection.execute(text("UPDATE conversations SET title = 'after' WHERE id = :c"), parameters)
    with flask_app.app_context():
        assert [index_conversation(user.id, conversation) for _ in range(2)] == [True, False]
    with engine.connect() as connection:
        [document] = connection.execute(
            text("SELECT document FROM search_documents WHERE conversation_id = :c"), parameters
        ).scalars()
    assert document == "'kept':1 'words':2"
