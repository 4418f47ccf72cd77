"""The composition root: settings in, application out. gunicorn serves `flask_app`, the `flask` command finds it."""

from ops.api import BLUEPRINTS
from ops.cli import COMMANDS
from ops.composition import application_or_exit, settings_or_exit

flask_app = application_or_exit(settings_or_exit(), blueprints=BLUEPRINTS, commands=COMMANDS)
