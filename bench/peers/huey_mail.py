"""A task of Huey for each message, which Flask-Mailman sends; or, to measure the engine alone, which sends nothing.

    python huey_mail.py --storage sqlite:FILE|postgresql://…|redis://… [--workers N] [--port PORT] [--rows DATABASE]

Lines on the input: `queue N` (mails), `queue-rows N` (a row and a task that keeps it, see rows.py) or `queue-empty N`
(tasks that do nothing); `deliver` starts the consumer and answers at once; `wait N SECONDS` until N tasks were done;
`rest` stops the consumer.
"""

import argparse

import content
from flask import Flask
from flask_mailman import EmailMessage, Mail
from huey import PostgresHuey, RedisHuey, SqliteHuey
from rows import Rows
from talk import Done, questions, say


def open_queue(url):
    """Without results, which nobody here reads; PostgreSQL's and Redis's storages wake a consumer by themselves."""
    options = {"name": "bench", "results": False}
    if url.startswith("sqlite:"):
        return SqliteHuey(filename=url.removeprefix("sqlite:"), fsync=True, **options)
    return PostgresHuey(dsn=url, **options) if url.startswith("postgresql:") else RedisHuey(url=url, **options)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--storage", required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--port", type=int, default=25)
    parser.add_argument("--rows")
    arguments = parser.parse_args()
    huey = open_queue(arguments.storage)
    app = Flask(__name__)
    app.config.update(MAIL_SERVER="127.0.0.1", MAIL_PORT=arguments.port, MAIL_TIMEOUT=60)
    Mail(app)
    done = Done()
    rows = Rows(arguments.rows) if arguments.rows else None

    @huey.task()
    def send(subject, body, sender, recipient):
        with app.app_context():
            EmailMessage(subject, body, sender, [recipient]).send()
        done.one()

    @huey.task()
    def keep_row(number):
        if rows.take(number):
            rows.finish(number)
        done.one()

    @huey.task()
    def do_nothing():
        done.one()

    say(ready="huey")
    consumer = None
    for verb, values in questions():
        if verb == "queue":
            for _ in range(int(values[0])):
                send(content.SUBJECT, content.TEXT, content.SENDER, content.RECIPIENT)
        elif verb == "queue-rows":
            for _ in range(int(values[0])):
                keep_row(rows.add())
        elif verb == "queue-empty":
            for _ in range(int(values[0])):
                do_nothing()
        elif verb == "deliver":
            done.begin()
            # No longer pause than ours between two looks at an empty queue.
            consumer = huey.create_consumer(workers=arguments.workers, periodic=False, max_delay=0.25)
            consumer.start()
        elif verb == "wait":
            done.wait(*values)
        elif verb == "rest" and consumer is not None:
            consumer.stop(graceful=True)
        say(done=verb, **done.facts())


if __name__ == "__main__":
    main()
