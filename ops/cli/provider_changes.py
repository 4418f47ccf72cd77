"""`flask ops provider use`, `reset` and `test`."""

import click

from ops.cli.actions import ChangePlan, confirm, operator
from ops.cli.base import command, json_option, print_report, yes_option
from ops.levels import Level
from ops.providers.choice import ProviderSwitched, reset_provider, use_provider
from ops.providers.testing import send_test_request
from ops.runs.audit import audited

_LOCKS = "one row of settings; running turns finish with their provider"


@command("use")
@click.argument("name")
@click.option("--model", help="Model; by default the provider's own.")
@click.option("--dry-run", is_flag=True, help="Show the change without making it.")
@yes_option
@json_option
def use(name: str, model: str | None, dry_run: bool, yes: bool, json: bool) -> None:
    """Make NAME the default provider of all servers.

    Requests and projects that name a provider keep it.
    """
    by = operator()
    plan = use_provider(name=name, model=model, by=by, dry_run=True)
    if not dry_run:
        confirm(ChangePlan(summary=_summary(plan), locks=_LOCKS, undo=_undo(plan)), yes=yes)
        with audited(actor=by, action="provider.use", target=name, details={"model": model}) as notes:
            plan = use_provider(name=name, model=model, by=by)
            notes["previous"] = plan.previous
    print_report("provider use", plan, json=json)


@command("reset")
@click.option("--dry-run", is_flag=True, help="Show the change without making it.")
@yes_option
@json_option
def reset(dry_run: bool, yes: bool, json: bool) -> None:
    """Remove the choice, so that AI_PROVIDER applies again."""
    by = operator()
    plan = reset_provider(by=by, dry_run=True)
    if not dry_run:
        confirm(ChangePlan(summary=_summary(plan), locks=_LOCKS, undo=_undo(plan)), yes=yes)
        with audited(actor=by, action="provider.reset", target=plan.name) as notes:
            plan = reset_provider(by=by)
            notes["previous"] = plan.previous
    print_report("provider reset", plan, json=json)


@command("test")
@click.argument("name", required=False)
@json_option
def test(name: str | None, json: bool) -> None:
    """Send a short request to NAME, or to the provider in use; show its duration or the error."""
    with audited(actor=operator(), action="provider.test", target=name) as notes:
        tested = send_test_request(name, twice=True)
        notes.update(provider=tested.name, ok=tested.ok, model=tested.model)
    print_report("provider test", tested, json=json, level=Level.OK if tested.ok else Level.CRITICAL)


def _summary(plan: ProviderSwitched) -> str:
    return f"use {plan.name} ({plan.model}) instead of {plan.previous} ({plan.previous_model}) on all servers."


def _undo(plan: ProviderSwitched) -> str:
    return f"flask ops provider use {plan.previous} --model {plan.previous_model}, or flask ops provider reset"
