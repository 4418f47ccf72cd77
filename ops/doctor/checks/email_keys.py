"""The normal forms by which email addresses are looked up."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.levels import Level
from ops.users.email_keys import KeyState, key_problems

SHOWN = 10  # users in the evidence of a finding

_MESSAGES = {
    KeyState.MISSING: "{} users have no normal form of their email address, as rows of an earlier release.",
    KeyState.OUTDATED: "{} users have a normal form that is not the one of their email address.",
    KeyState.SHARED: "{} users have an email address that looks like the one of another account.",
}
_FILL = "flask ops jobs run users.fill_email_keys"
_DECIDE = (
    "Which of the accounts does the owner use? The owner can change the address of the other one with"
    " `POST /api/auth/email`; or run `flask ops user erase ID --reason 'second account'`"
)


@check(
    "users.email_keys",
    "Has every user the normal form of the email address?",
    severity=Level.WARNING,
    thorough=True,
)
def email_keys(context: CheckContext) -> Iterator[Finding]:
    """Compare the normal form of each user with the one of the address."""
    counts: Counter[KeyState] = Counter()
    users: defaultdict[KeyState, list[str]] = defaultdict(list)
    for problems in key_problems(context.connection):
        for problem in problems:
            counts[problem.state] += 1
            if counts[problem.state] <= SHOWN:
                users[problem.state].append(str(problem.user_id))
    for state, count in counts.items():
        yield Finding(
            level=Level.WARNING,
            object=state.value,
            message=_MESSAGES[state].format(count),
            evidence={"users": users[state]},
            remedy=_DECIDE if state is KeyState.SHARED else _FILL,
        )
