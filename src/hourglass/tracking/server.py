"""MLflow's server or database: its address, its settings, and why it does not answer."""

import logging
import os
import re
import socket
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from hourglass.system.secrets import first_line

# Seconds that a request may take.
REQUEST = 10


@contextmanager
def served(uri: str) -> Iterator[str]:
    """Set MLflow up for one address, and give the address without its user and password, fit to be shown.

    MLflow would repeat a request for minutes, and show the whole address in its errors. What the user has set in the
    environment stays.
    """
    wanted = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # At once: a single hiccup is no news.
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(REQUEST),
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme in ("http", "https") and "@" in parts.netloc:
        account, _, host = parts.netloc.rpartition("@")
        user, _, password = account.partition(":")
        wanted["MLFLOW_TRACKING_USERNAME"] = urllib.parse.unquote(user)
        wanted["MLFLOW_TRACKING_PASSWORD"] = urllib.parse.unquote(password)
        uri = parts._replace(netloc=host).geturl()
    with quiet(), _environment(wanted):
        yield uri


@contextmanager
def quiet() -> Iterator[None]:
    """Have MLflow say only what went wrong."""
    for chatty in ("alembic", "mlflow", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    with _environment({"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}):
        yield


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Set what the user has not."""
    new = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


def check_database(uri: str) -> None:
    """See that a database server lets us in; MLflow would try for minutes.

    Raises:
        Exception: of SQLAlchemy and the driver.
    """
    if uri.startswith(("http", "sqlite")):
        return
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool)
    engine.connect().close()


def unreachable(error: BaseException, uri: str) -> bool:
    """Whether an error says that the server is down, slow or ill, and not that it refuses what it is asked."""
    if uri.startswith("sqlite"):
        return False
    if not uri.startswith("http"):
        from sqlalchemy.exc import DBAPIError

        return any(isinstance(link, DBAPIError) for link in _chain(error)) and not _listens(uri)
    import requests

    mistakes = (requests.exceptions.SSLError, requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema)
    if any(isinstance(link, mistakes) for link in _chain(error)):
        return False
    busy = getattr(error, "get_http_status_code", lambda: 0)() in (408, 429, 502, 503, 504)
    return busy or _of_network(error)


def made_by_another(error: BaseException) -> bool:
    """Whether an error says that what was to be made is there: MLflow looks first, and two runs may look at once.

    Of runs that begin together, one makes the tables and the dataset; asked again, MLflow finds them. A server repeats
    what its database says in the text.
    """
    said = [repr(one).partition("[SQL")[0] for one in _chain(error)]  # What was to be written is not what went wrong.
    return any(re.search("IntegrityError|UniqueViolation|Duplicate|already exists", one) for one in said)


def _chain(error: BaseException) -> list[BaseException]:
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    return chain


def _of_network(error: BaseException) -> bool:
    import requests

    return any(isinstance(link, requests.exceptions.RequestException) for link in _chain(error))


def _listens(uri: str) -> bool:
    """Whether anything listens where a database should."""
    parts = urllib.parse.urlsplit(uri)
    ports = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
    try:
        address = (parts.hostname or "localhost", parts.port or ports[parts.scheme.partition("+")[0]])
        socket.create_connection(address, timeout=REQUEST).close()
    except OSError:
        return False
    return True


def reason(error: BaseException) -> str:
    """Return an error in one line, without what may be secret; of the network, what is at the bottom of it."""
    return first_line(_chain(error)[-1] if _of_network(error) else error)
