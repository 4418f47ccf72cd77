"""The web application, which gunicorn serves as `wsgi:flask_app`."""

from ops.api import BLUEPRINTS
from ops.server.composition import create_web_app, exit_on_error, load_process_settings

with exit_on_error():
    flask_app = create_web_app(load_process_settings(), BLUEPRINTS)
