"""The choice of checks by id or group."""

from collections.abc import Sequence

from ops.checks.declaration import Check


def choose_checks(checks: Sequence[Check], only: Sequence[str] = (), *, thorough: bool = False) -> list[Check]:
    """Return those of `checks` with the ids or groups in `only`, or all of them.

    A thorough check is included if `thorough` is set or `only` has its id.

    Raises `LookupError`, with the known ids and groups, for an unknown one.
    """
    known = {check.id for check in checks} | {check.group for check in checks}
    if unknown := [name for name in only if name not in known]:
        raise LookupError(f"There is no check {', '.join(unknown)}; known are {', '.join(sorted(known))}.")
    if only:
        selected = [check for check in checks if check.id in only or check.group in only]
        return [check for check in selected if thorough or not check.thorough or check.id in only]
    return [check for check in checks if thorough or not check.thorough]
