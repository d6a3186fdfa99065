"""Sign-in and the first administrator's form: shape only; the rules are in accounts.py."""

from __future__ import annotations

from flask_wtf import FlaskForm
from wtforms import PasswordField, StringField
from wtforms.validators import InputRequired


class SignInForm(FlaskForm):
    email = StringField("Email", validators=[InputRequired("Enter your email address")])
    password = PasswordField("Password", validators=[InputRequired("Enter your password")])


class WelcomeForm(FlaskForm):
    name = StringField("Your name")
    email = StringField("Email", validators=[InputRequired("Enter your email address")])
    password = PasswordField("Password", validators=[InputRequired("Choose a password")])
