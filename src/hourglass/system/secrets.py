"""Keep passwords and tokens out of messages and settings."""

import re
import urllib.parse

from hourglass.errors import UserError

_SECRET_KEY = r"(?i)([?&]\w*(?:password|passwd|pwd|token|secret|key)\w*=)[^&\s]+"


def without_secrets(text: str) -> str:
    """Return a text with the user, the password and the keys in the addresses that it holds covered."""
    text = re.sub(r"(\w://)[^\s'\"]+@", r"\1***@", text)
    return re.sub(_SECRET_KEY, r"\1***", text)


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, 200 characters at most, without secrets; or the error's name."""
    return without_secrets((str(error).strip() or type(error).__name__).splitlines()[0])[:200]


def check_address(uri: str, option: str, *, environment: str | None) -> None:
    """See that the address of a database or a server can be read in one way, and gives no secret away.

    Args:
        uri: the address.
        option: what set it, for messages; no message repeats the address.
        environment: the variable that a secret belongs into; None where the address stands there.

    Raises:
        UserError: what stands before the host is not percent-encoded, or there is a secret and `environment`.
    """
    scheme, _, rest = uri.partition("://")
    if scheme.partition("+")[0] == "sqlite":
        return
    place = rest.partition("?")[0]
    account, at, host = place.rpartition("@")
    try:
        _ = urllib.parse.urlsplit(f"{scheme}://{host}").port
    except ValueError:
        raise UserError(f"{option}: what follows the host is no port") from None
    if re.search(r"[@/#\s]", account) or "@" in rest[len(place) :]:
        raise UserError(f"{option}: percent-encode the user and the password (@ is %40, / is %2F, # is %23, ? is %3F)")
    # A token may stand as the user of a server; a database has users without passwords.
    secret = ":" in account or (at and scheme.startswith("http")) or re.search(_SECRET_KEY, rest)
    if environment and secret:
        raise UserError(
            f"{option}: has a password, and settings are written to files: set {environment}=... in the environment, "
            f"and {option}=null"
        )
