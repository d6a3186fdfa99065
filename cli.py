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
from security.vault import Keyring

admin = AppGroup("admin", help="Administrators.")
keys_group = AppGroup("secrets", help="Encryption keys.")


def makes_keys(argv: list[str]) -> bool:
    """Whether this process is `flask secrets init`, the one command that runs before there is a key."""
    return argv[1:3] == ["secrets", "init"]


def mends_keys(argv: list[str]) -> bool:
    """Whether this process is a `flask secrets` command, which must start even when the keys are wrong."""
    return argv[1:2] == ["secrets"]


def register(app: Flask) -> None:
    for command in (admin, keys_group, worker_command, sandbox_command):
        app.cli.add_command(command)


def register_key_making(app: Flask) -> None:
    app.cli.add_command(keys_group)


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
@click.option("--threads", default=4, show_default=True, type=click.IntRange(1, 64), help="Messages at the same time.")
@with_appcontext
def worker_command(threads: int) -> None:
    """Deliver what waits, until told to stop."""
    import worker

    worker.run(current_app._get_current_object(), threads=threads)


@click.command("sandbox")
@click.option("--directory", default="instance/sandbox", type=click.Path(file_okay=False, path_type=Path))
def sandbox_command(directory: Path) -> None:
    """Run the sandbox: a local OAuth provider, SMTP server and inbox, on loopback only."""
    from sandbox.serve import serve

    try:
        serve(directory=directory)
    except (OSError, ValueError) as error:
        _fail(str(error))
