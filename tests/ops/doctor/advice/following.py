"""Following advice literally: the statement of a finding, or the first command of its remedy."""

import re
import shlex
import subprocess
import sys

from ops.checks.findings import Finding
from ops.upgrades.pending import split_statements
from tests.ops.conftest import own_environment
from tests.ops.doctor.advice.sites import PROJECT
from tests.ops.doctor.conftest import DoctorInstall

COMMAND = re.compile(r"flask ((?:ops|db) [^;:?(),]*[^;:?(),. ])")
END = re.compile(r"\.(?: |$)| records | shows |, then | then ")  # what does not belong to the command before it


def commands_of(finding: Finding) -> list[str]:
    """Return the commands of a remedy, without `flask`."""
    return [END.split(match[1], maxsplit=1)[0] for match in COMMAND.finditer(str(finding.remedy))]


def follow(install: DoctorInstall, finding: Finding) -> None:
    """Run the statements of a finding as the owner, or the first command of its remedy if it has none."""
    if finding.sql is not None:
        install.run(*split_statements(finding.sql))
        return
    commands = commands_of(finding)
    assert commands, f"nothing to follow in {finding.remedy!r}"
    run_command(install, *shlex.split(commands[0]))


def run_command(install: DoctorInstall, *arguments: str) -> None:
    """Run `flask` on the installation's database."""
    backups = install.settings.backups.url
    environment = own_environment(
        DATABASE_URL=install.url, PYTHONPATH=str(PROJECT), PARLEY_HOME=str(install.settings.server.home)
    )
    done = subprocess.run(
        [sys.executable, "-m", "flask", *arguments],
        cwd=PROJECT,
        env=environment | ({"BACKUP_URL": backups} if backups else {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
