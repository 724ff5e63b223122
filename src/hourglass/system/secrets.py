"""Keep passwords and tokens out of messages and settings."""

import re
import urllib.parse

from hourglass.errors import UserError

_SECRET_KEY = r"(?i)([?&]\w*(?:password|passwd|pwd|token|secret|key)\w*=)[^&\s]+"


def without_secrets(text: str) -> str:
    """Return a text in which users, passwords and keys of addresses are replaced by ***."""
    text = re.sub(r"(\w://)[^\s'\"]+@", r"\1***@", text)
    return re.sub(_SECRET_KEY, r"\1***", text)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its class name; without secrets, at most 200 characters."""
    return without_secrets((str(error).strip() or type(error).__name__).splitlines()[0])[:200]


def check_address(uri: str, option: str, *, environment: str | None) -> None:
    """Check that the address of a database or a server is unambiguous, and holds no secret.

    Args:
        uri: the address.
        option: the option that set it, for messages, which never repeat the address.
        environment: the environment variable for an address with a secret; None if the address comes from there.

    Raises:
        UserError: user or password are not percent-encoded, or the address holds a secret and is an option.
    """
    scheme, _, rest = uri.partition("://")
    if scheme.partition("+")[0] == "sqlite":
        return
    place = rest.partition("?")[0]
    account, at, host = place.rpartition("@")
    try:
        _ = urllib.parse.urlsplit(f"{scheme}://{host}").port
    except ValueError:
        raise UserError(f"{option}: the port after the host is not a number: write HOST:PORT") from None
    if re.search(r"[@/#\s]", account) or "@" in rest[len(place) :]:
        raise UserError(f"{option}: percent-encode the user and the password (@ is %40, / is %2F, # is %23, ? is %3F)")
    # A server may take a token in place of the user. A database has users without passwords.
    secret = ":" in account or (at and scheme.startswith("http")) or re.search(_SECRET_KEY, rest)
    if environment and secret:
        raise UserError(
            f"{option}: the address has a password, and settings are written to files: set {environment}=... in the "
            f"environment, and {option}=null"
        )
