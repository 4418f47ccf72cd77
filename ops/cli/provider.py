"""`flask ops provider`: choose and test the AI provider."""

import click

from ops import providers
from ops.cli.actions import ChangePlan, confirm, operator, yes_option
from ops.cli.base import group, json_option, print_report
from ops.levels import Level
from ops.providers import ProviderSwitched
from ops.runs.audit import audited

_LOCKS = "one row of settings; running turns finish with their provider"


@group("provider")
def provider() -> None:
    """Choose and test the AI provider."""


@provider.command("list")
@json_option
def list_all(json: bool) -> None:
    """List all providers with their configuration and the default."""
    print_report("provider list", providers.list_providers(), json=json)


@provider.command("use")
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
    plan = providers.use_provider(name=name, model=model, by=by, dry_run=True)
    if not dry_run:
        confirm(ChangePlan(summary=_summary(plan), locks=_LOCKS, undo=_undo(plan)), yes=yes)
        with audited(actor=by, action="provider.use", target=name, details={"model": model}) as notes:
            plan = providers.use_provider(name=name, model=model, by=by)
            notes["previous"] = plan.previous
    print_report("provider use", plan, json=json)


@provider.command("reset")
@click.option("--dry-run", is_flag=True, help="Show the change without making it.")
@yes_option
@json_option
def reset(dry_run: bool, yes: bool, json: bool) -> None:
    """Remove the choice, so that AI_PROVIDER applies again."""
    by = operator()
    plan = providers.reset_provider(by=by, dry_run=True)
    if not dry_run:
        confirm(ChangePlan(summary=_summary(plan), locks=_LOCKS, undo=_undo(plan)), yes=yes)
        with audited(actor=by, action="provider.reset", target=plan.name) as notes:
            plan = providers.reset_provider(by=by)
            notes["previous"] = plan.previous
    print_report("provider reset", plan, json=json)


@provider.command("test")
@click.argument("name", required=False)
@json_option
def test(name: str | None, json: bool) -> None:
    """Send a short request to NAME, or to the provider in use; show its duration or the error."""
    with audited(actor=operator(), action="provider.test", target=name) as notes:
        tested = providers.test_provider(name, twice=True)
        notes.update(provider=tested.name, ok=tested.ok, model=tested.model)
    print_report("provider test", tested, json=json, level=Level.OK if tested.ok else Level.CRITICAL)


def _summary(plan: ProviderSwitched) -> str:
    return f"use {plan.name} ({plan.model}) instead of {plan.previous} ({plan.previous_model}) on all servers."


def _undo(plan: ProviderSwitched) -> str:
    return f"flask ops provider use {plan.previous} --model {plan.previous_model}, or flask ops provider reset"
