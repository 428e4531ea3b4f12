"""A real OpenID Connect provider: django-oauth-toolkit, with a login page, a consent page and three people.

Run by the Python of an environment of its own: oidc_site.py FOLDER PORT CLIENT_ID CLIENT_SECRET REDIRECT_URI. It prints "ready".
Their addresses say what they are; all have the same password. The people's names are their addresses.
"""

import socketserver
import sys
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

FOLDER, PORT, CLIENT_ID, CLIENT_SECRET, REDIRECT_URI = sys.argv[1:]
PASSWORD = "password-of-a-test"
PEOPLE = ("operator@example.com", "stranger@elsewhere.example", "unverified@example.com")
LOGIN = """<!doctype html><html lang="en"><title>Sign in</title><form method="post">{% csrf_token %}
{{ form.as_p }}<button id="sign-in">Sign in</button></form></html>"""


def private_key() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()).decode()


def configure() -> None:
    from django.conf import settings

    apps = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "django.contrib.messages", "oauth2_provider"]
    middleware = ["sessions.middleware.SessionMiddleware", "auth.middleware.AuthenticationMiddleware", "messages.middleware.MessageMiddleware"]
    processors = ["django.template.context_processors.request", "django.contrib.auth.context_processors.auth"]
    loaders = [("django.template.loaders.locmem.Loader", {"registration/login.html": LOGIN}), "django.template.loaders.app_directories.Loader"]
    settings.configure(
        DEBUG=False, SECRET_KEY="a-key-of-a-test" * 4, ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF="__main__", USE_TZ=True, LOGIN_URL="/login",
        INSTALLED_APPS=apps, MIDDLEWARE=[*(f"django.contrib.{name}" for name in middleware), "django.middleware.csrf.CsrfViewMiddleware"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{FOLDER}/provider.sqlite3"}},
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "OPTIONS": {"loaders": loaders, "context_processors": processors}}],
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"], DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        MIGRATION_MODULES={name.rpartition(".")[2]: None for name in apps},  # the tables as they are now, at once
        SESSION_COOKIE_NAME="provider_session", CSRF_COOKIE_NAME="provider_csrf",
        OAUTH2_PROVIDER={
            "OIDC_ENABLED": True, "OIDC_RSA_PRIVATE_KEY": private_key(), "PKCE_REQUIRED": True, "SCOPES": {"openid": "Who you are", "email": "Your address"},
            "OAUTH2_VALIDATOR_CLASS": "__main__.Validator",
        },
    )  # fmt: skip


def prepare() -> None:
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from oauth2_provider.models import Application

    call_command("migrate", verbosity=0, run_syncdb=True)
    for address in PEOPLE:
        User.objects.create_user(address, email=address, password=PASSWORD)
    Application.objects.create(
        name="Level5 console", client_id=CLIENT_ID, client_secret=CLIENT_SECRET, redirect_uris=REDIRECT_URI, algorithm="RS256",
        client_type=Application.CLIENT_CONFIDENTIAL, authorization_grant_type=Application.GRANT_AUTHORIZATION_CODE,
    )  # fmt: skip


class Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        """Say nothing: what the tests want to know they ask."""


configure()

import django  # noqa: E402  # the settings come first

django.setup()

from django.contrib.auth.views import LoginView  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.urls import include, path  # noqa: E402
from oauth2_provider.oauth2_validators import OAuth2Validator  # noqa: E402


class Validator(OAuth2Validator):  # type: ignore[misc]  # of another environment
    """Says the address of a person, and whether it was verified."""

    oidc_claim_scope = None

    def get_additional_claims(self, request: object) -> dict[str, object]:
        address = request.user.email  # type: ignore[attr-defined]
        return {"email": address, "email_verified": not address.startswith("unverified")}


urlpatterns = [path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")), path("login", LoginView.as_view())]

if __name__ == "__main__":
    prepare()
    server = Server(("127.0.0.1", int(PORT)), Quiet)
    server.set_app(get_wsgi_application())
    Path(FOLDER, "ready").touch()
    print("ready", flush=True)
    server.serve_forever()
