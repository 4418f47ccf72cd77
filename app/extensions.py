"""The Flask extensions, unbound; `factory.create_app` binds them. Imports nothing of ours."""

from typing import Any

import click
from flask import Flask
from flask_jwt_extended import JWTManager
from flask_smorest import Api
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase):
    """Base of all models. Constraint names are fixed so that migrations can name what they change."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Migrations:
    """Flask-Migrate, imported when it is first used: a web worker never migrates, and Alembic takes 12 MB of memory."""

    def init_app(self, flask_app: Flask, database: SQLAlchemy, directory: str) -> None:
        """Let `flask db` and the functions of flask_migrate find `directory`."""
        flask_app.extensions["migrate"] = _Later(flask_app, database, directory)
        flask_app.cli.add_command(_LaterCommand("db", help="Perform database migrations."))


class _Later:
    """Stands where Flask-Migrate looks for its settings, until it does."""

    def __init__(self, flask_app: Flask, database: SQLAlchemy, directory: str) -> None:
        self._arguments = flask_app, database, directory

    def __getattr__(self, name: str) -> Any:
        from flask_migrate import Migrate

        flask_app, database, directory = self._arguments
        Migrate().init_app(flask_app, database, directory=directory)  # takes this one's place
        return getattr(flask_app.extensions["migrate"], name)


class _LaterCommand(click.Command):
    """Flask-Migrate's command, looked at once it is called."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        from flask_migrate.cli import db as command

        context: click.Context = command.make_context(info_name, args, parent, **extra)
        return context


db = SQLAlchemy(model_class=Base, disable_autonaming=True)
migrate = Migrations()
jwt = JWTManager()
api = Api()
