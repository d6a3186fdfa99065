"""Commands: thin doors over the rooms below, for operators and for `make run`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
from flask import Flask, current_app
from flask.cli import AppGroup, with_appcontext
from sqlalchemy import create_engine, inspect

import config
import start_worker
from mail import key_rotation, keys
from security.vault import Keyring, KeyringError, Vault

admin = AppGroup("admin", help="Administrators.")
keys_group = AppGroup("secrets", help="Encryption keys.")


def makes_keys(argv: list[str]) -> bool:
    """Whether this process is `flask secrets init`, the one command that runs before there is a key."""
    return argv[1:3] == ["secrets", "init"]


def mends_keys(argv: list[str]) -> bool:
    """Whether this process is a `flask secrets` command, which must start even when the keys are wrong."""
    return argv[1:2] == ["secrets"]


def becomes_worker(argv: list[str]) -> bool:
    """Whether this process is `flask worker`, which goes on as a process of its own."""
    return argv[1:2] == ["worker"]


def register(app: Flask) -> None:
    for command in (admin, keys_group, worker_command, relay_command, sandbox_command):
        app.cli.add_command(command)


def register_key_making(app: Flask) -> None:
    app.cli.add_command(keys_group)


def register_worker(app: Flask) -> None:
    app.cli.add_command(worker_command)


def _fail(sentence: str) -> None:
    raise click.ClickException(sentence)


@keys_group.command("init", with_appcontext=False)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--name", default="k1", show_default=True, help="What the key is called in the keyring.")
def secrets_init(file: Path, name: str) -> None:
    """Write a keyring with one new key to FILE; only once, and only beside an empty database."""
    if file.exists():
        _fail(f"{file} exists already: keys are never overwritten.")
    url = config.database_url()
    if not (url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists()):
        engine = create_engine(url)
        try:
            if inspect(engine).get_table_names():
                _fail(
                    "The database is not empty: restore the keyring it was encrypted with instead of making a new one."
                )
        finally:
            engine.dispose()
    file.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as stream:
        stream.write(Keyring.generate(name).rstrip("\n") + "\n")
    click.echo(f"Wrote one new key to {file}. Back it up: without it, stored secrets and queued mail cannot be read.")


@keys_group.command("status")
def secrets_status() -> None:
    """Show which keys there are, and how many stored values each of them has sealed; none of the values."""
    vault = _vault()
    for use in keys.use_of_keys(vault):
        facts = ["in the keyring" if use.is_in_keyring else "not in the keyring"]
        facts += ["seals new values"] if use.seals else []
        facts += ["may be dropped"] if use.is_free else []
        facts = facts if use.name else ["no sealed values: damaged"]
        click.echo(f"{use.name or '(none)'}: {', '.join(facts)}; {_values(use.total)}")
        for label, count in use.sealed:
            click.echo(f"  {label:<45}{count:>9,}")
    for fault in keys.faults(vault):
        click.echo(fault)


@keys_group.command("doctor")
def secrets_doctor() -> None:
    """Try to open every stored value; name those that do not open, their stores, and what to do."""
    vault, found = _vault(), 0
    for fault in keys.faults(vault):
        found += 1
        click.echo(fault)
    for damage in keys.find_damage(vault):
        found += 1
        whose = ", ".join(damage.stores) or "No store"
        click.echo(f"{whose}: {damage.reason} {damage.remedy}.")
    if found:
        _fail(f"{found:,} {'fault' if found == 1 else 'faults'} found. Nothing was changed.")
    click.echo("Every stored value opens.")


@keys_group.command("rotate")
def secrets_rotate() -> None:
    """Seal every stored value anew with the first key of the keyring.

    Put the new key in front of the old ones and restart web and workers with that keyring first; then they may go on
    while this runs. It can be interrupted and started again at any time.
    """
    try:
        done = key_rotation.rotate(_vault(), tell=lambda label, count: click.echo(f"{label}: {count:,} sealed anew"))
    except KeyringError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{_values(done.resealed)} sealed anew.")
    for name in done.droppable:
        click.echo(f"Nothing needs the key “{name}” any more: you may drop it from the keyring.")
    for name, count in done.in_use.items():
        click.echo(f"Keep the key “{name}”: {_values(count)} still under it.")
    if done.late:
        _fail(
            f"{_values(done.late)} came in under an older key while this ran: some process still has the older "
            "keyring. Restart web and workers, then rotate again; drop no key before."
        )
    if done.in_use or done.unreadable:
        _fail(f"{_values(done.unreadable)} could not be opened and stayed as they were: see “flask secrets doctor”.")


def _vault() -> Vault:
    vault: Vault = current_app.extensions["storepost"].vault
    return vault


def _values(count: int) -> str:
    return f"{count:,} value{'' if count == 1 else 's'}"


@admin.command("create")
@click.argument("email")
@click.option("--name", default="", help="Shown beside what this person does.")
@with_appcontext
def admin_create(email: str, name: str) -> None:
    """Make a platform administrator; the password is asked for, or read from standard input."""
    from blueprints.auth import accounts

    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\n")
    try:
        user = accounts.create_administrator(email, name, password)
    except accounts.AccountError as error:
        _fail("\n".join(error.sentences))
    else:
        click.echo(f"{user.email} can sign in now.")


@admin.command("link")
@with_appcontext
def admin_link() -> None:
    """Print a one-time link that makes the first administrator, while there is none."""
    from blueprints.auth import accounts

    url = accounts.make_first_link()
    if url:
        click.echo(url)


@click.command("worker")
@click.option("--threads", default=16, show_default=True, type=click.IntRange(1, 200), help="Stores at the same time.")
def worker_command(threads: int) -> None:
    """Deliver what waits, until told to stop."""
    start_worker.take_over(threads=threads)


@click.command("relay")
@with_appcontext
def relay_command() -> None:
    """Take mail by SMTP from applications that know only host, user name and password, until told to stop."""
    import relay

    try:
        relay.run(current_app._get_current_object())
    except relay.CannotStart as error:
        _fail(str(error))


@click.command("sandbox")
@click.option("--directory", default="instance/sandbox", type=click.Path(file_okay=False, path_type=Path))
def sandbox_command(directory: Path) -> None:
    """Run the sandbox: a local OAuth provider, SMTP server and inbox, on loopback only."""
    from sandbox.serve import serve

    try:
        serve(directory=directory)
    except (OSError, ValueError) as error:
        _fail(str(error))
