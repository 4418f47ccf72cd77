"""Documents: whether the generated pages match this code."""

from ops.catalogue.declarations import load
from ops.checks.context import CheckContext
from ops.routines.sections import Section


def up_to_date(context: CheckContext) -> Section:
    """Report generated pages that are out of date and runbooks that are missing.

    The generators read the API and the commands, which are layers above this one, so they are loaded by name.
    """
    section: Section = load("ops.generate.documents:up_to_date")(context)
    return section
