"""Sign-in and the first administrator's form: shape only; the rules are in accounts.py."""

from __future__ import annotations

from wtforms import PasswordField, StringField
from wtforms.validators import InputRequired

from blueprints.fields import StrippedForm


class SignInForm(StrippedForm):
    email = StringField("Email", validators=[InputRequired("Enter your email address")])
    password = PasswordField("Password", validators=[InputRequired("Enter your password")])


class WelcomeForm(StrippedForm):
    name = StringField("Your name")
    email = StringField("Email", validators=[InputRequired("Enter your email address")])
    password = PasswordField("Password", validators=[InputRequired("Choose a password")])
