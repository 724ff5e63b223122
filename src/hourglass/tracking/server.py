"""The server or database behind MLflow: its address, the environment of MLflow's client, and its errors."""

import logging
import os
import re
import socket
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from hourglass.system.secrets import first_line

# Seconds after which a request or a connection fails.
TIMEOUT = 10


@contextmanager
def mlflow_server(uri: str) -> Iterator[str]:
    """Set the environment of MLflow's client for one address, and yield the address without user and password.

    By default the client repeats a request for minutes, and shows the whole address in its errors. Variables that the
    user has set are kept.
    """
    defaults = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # Without delay: one failed request may be chance.
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(TIMEOUT),
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme in ("http", "https") and "@" in parts.netloc:
        account, _, host = parts.netloc.rpartition("@")
        user, _, password = account.partition(":")
        defaults["MLFLOW_TRACKING_USERNAME"] = urllib.parse.unquote(user)
        defaults["MLFLOW_TRACKING_PASSWORD"] = urllib.parse.unquote(password)
        uri = parts._replace(netloc=host).geturl()
    with quiet(), _environment(defaults):
        yield uri


@contextmanager
def quiet() -> Iterator[None]:
    """Silence MLflow except for errors."""
    for name in ("alembic", "mlflow", "urllib3"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with _environment({"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}):
        yield


@contextmanager
def _environment(defaults: Mapping[str, str]) -> Iterator[None]:
    """Set those environment variables that are not set."""
    new = {name: value for name, value in defaults.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


def check_database(uri: str) -> None:
    """Check that a database can be opened; MLflow itself would retry for minutes.

    Raises:
        Exception: any error of SQLAlchemy or the driver.
    """
    if uri.startswith("http"):
        return
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool)
    engine.connect().close()


def unreachable(error: BaseException, uri: str) -> bool:
    """Return whether an error means that the server is down, slow or overloaded, rather than that it refuses."""
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


def created_by_another(error: BaseException) -> bool:
    """Return whether an error means that another run has just created the same table or dataset.

    MLflow checks whether they exist before it creates them, and two runs may check at the same time. When the request
    is repeated, MLflow finds them. A server's error contains the message of its database.
    """
    messages = [repr(link).partition("[SQL")[0] for link in _chain(error)]  # Without the statement and its values.
    return any(re.search("IntegrityError|UniqueViolation|[Dd]uplicate|already exists", message) for message in messages)


def _chain(error: BaseException) -> list[BaseException]:
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    return chain


def _of_network(error: BaseException) -> bool:
    import requests

    return any(isinstance(link, requests.exceptions.RequestException) for link in _chain(error))


def _listens(uri: str) -> bool:
    """Return whether the address of a database accepts connections."""
    parts = urllib.parse.urlsplit(uri)
    ports = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
    try:
        address = (parts.hostname or "localhost", parts.port or ports[parts.scheme.partition("+")[0]])
        socket.create_connection(address, timeout=TIMEOUT).close()
    except OSError:
        return False
    return True


def error_line(error: BaseException) -> str:
    """Return an error as one line without secrets; for a network error, the message of its innermost cause."""
    return first_line(_chain(error)[-1] if _of_network(error) else error)
