"""The Flask extensions of the HTTP API, unbound; `factory.create_app` binds them. Commands and workers need neither."""

from flask_jwt_extended import JWTManager
from flask_smorest import Api

jwt = JWTManager()
api = Api()
