"""`flask ops provider list`."""

from ops.cli.base import command, json_option, print_report
from ops.providers.listing import list_providers


@command("list")
@json_option
def list_all(json: bool) -> None:
    """List all providers with their configuration and the default."""
    print_report("provider list", list_providers(), json=json)
