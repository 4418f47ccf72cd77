"""`flask ops provider`: which AI provider answers, and whether it does."""

import click

from ops import providers
from ops.audit import audited
from ops.cli.frame import Plan, ask, json_option, operator, ops, tell, yes_option
from ops.levels import Level
from ops.providers import ProviderSwitched

_LOCKS = "one row of settings; turns under way end with the provider that they began with"


@ops.group("provider")
def provider() -> None:
    """The AI providers."""


@provider.command("list")
@json_option
def list_all(json: bool) -> None:
    """Every provider: whether it is configured, what it lacks, and which one answers by default."""
    tell("provider list", providers.list_providers(), json=json)


@provider.command("use")
@click.argument("name")
@click.option("--model", help="The model to ask there; without it the provider's own.")
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@yes_option
@json_option
def use(name: str, model: str | None, dry_run: bool, yes: bool, json: bool) -> None:
    """Let NAME answer from now on, on every server, where neither request nor project names another."""
    by = operator()
    plan = providers.use_provider(name=name, model=model, by=by, dry_run=True)
    if not dry_run:
        ask(Plan(does=_does(plan), locks=_LOCKS, undo=_undo(plan)), yes=yes)
        with audited(by=by, action="provider.use", on=name, details={"model": model}) as notes:
            plan = providers.use_provider(name=name, model=model, by=by)
            notes["before"] = plan.before
    tell("provider use", plan, json=json)


@provider.command("reset")
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@yes_option
@json_option
def reset(dry_run: bool, yes: bool, json: bool) -> None:
    """Take the choice back: what AI_PROVIDER says holds again."""
    by = operator()
    plan = providers.reset_provider(by=by, dry_run=True)
    if not dry_run:
        ask(Plan(does=_does(plan), locks=_LOCKS, undo=_undo(plan)), yes=yes)
        with audited(by=by, action="provider.reset", on=plan.name) as notes:
            plan = providers.reset_provider(by=by)
            notes["before"] = plan.before
    tell("provider reset", plan, json=json)


@provider.command("test")
@click.argument("name", required=False)
@json_option
def test(name: str | None, json: bool) -> None:
    """Put a short question to NAME, or to the provider in use, and say how long it took or what is wrong."""
    tested = providers.test_provider(name, twice=True)
    tell("provider test", tested, json=json, level=Level.OK if tested.answers else Level.CRITICAL)


def _does(plan: ProviderSwitched) -> str:
    return f"let {plan.name} ({plan.model}) answer instead of {plan.before} ({plan.model_before}), on every server."


def _undo(plan: ProviderSwitched) -> str:
    return f"flask ops provider use {plan.before} --model {plan.model_before}, or flask ops provider reset"
