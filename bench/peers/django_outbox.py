"""django-post_office: messages queued in the project's database, sent by `send_queued_mail`.

    python django_outbox.py --database sqlite:FILE|postgresql://… --connections N --lockfile FILE --port PORT

Lines on the input: `queue N`, `deliver` (answers when all of it was tried), `clear`. Everything is at its
defaults but what the comparison needs: durable SQLite like ours, as many connections, kept for the whole queue.
"""

import argparse
from urllib.parse import urlsplit

import content
import django
from django.conf import settings
from talk import questions, say

DURABLE = {"init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL", "transaction_mode": "IMMEDIATE"}


def database(url):
    if url.startswith("sqlite:"):
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": url.removeprefix("sqlite:"), "OPTIONS": DURABLE}
    parts = urlsplit(url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.strip("/"),
        "USER": parts.username,
        "HOST": parts.hostname,
        "PORT": parts.port,
        "CONN_MAX_AGE": None,
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--database", required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--lockfile", required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "post_office"],
        DATABASES={"default": database(arguments.database)},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        EMAIL_BACKEND="post_office.EmailBackend",
        EMAIL_HOST="127.0.0.1",
        EMAIL_PORT=arguments.port,
        EMAIL_TIMEOUT=60,
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
        USE_TZ=True,
        # A connection is kept for a batch, and that has 100 messages.
        POST_OFFICE={"THREADS_PER_PROCESS": arguments.connections},
    )
    django.setup()
    from django.core.management import call_command
    from post_office import mail
    from post_office.models import Email

    call_command("migrate", verbosity=0, interactive=False)
    say(ready="post_office")
    for verb, values in questions():
        if verb == "queue":
            for _ in range(int(values[0])):
                mail.send(content.RECIPIENT, content.SENDER, subject=content.SUBJECT, message=content.TEXT)
        elif verb == "deliver":
            call_command("send_queued_mail", lockfile=arguments.lockfile)
        elif verb == "clear":
            Email.objects.all().delete()
        say(done=verb)


if __name__ == "__main__":
    main()
