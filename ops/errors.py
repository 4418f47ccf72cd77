"""What operations can refuse, beyond what the application knows."""

from app.errors import Conflict


class AnotherRunIsUnderWay(Conflict):
    """Somebody else does the same at this moment, and only one may."""

    code = "another_run_is_under_way"
    default_detail = "Another run of this is under way; wait for its end."
