"""The secrets that readers of a web page or of metrics show: a line in a file each."""

from __future__ import annotations

from pathlib import Path

from usidstream.errors import error_for

MIN_TOKEN_CHARS = 16
MAX_TOKEN_BYTES = 4096


def read_token(path: Path) -> str:
    """Return the token that stands in a file, without white space around it.

    Raises
    ------
    UsidstreamError
        ``bad_config``: it cannot be read, or is too short to keep anybody out.
    """
    try:
        with path.open("rb") as file:
            token = file.read(MAX_TOKEN_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise error_for("bad_config", f"{path} cannot be read as a token: {error}") from error
    if len(token) < MIN_TOKEN_CHARS or not token.isprintable() or " " in token:
        raise error_for(
            "bad_config",
            f"{path} must hold {MIN_TOKEN_CHARS} printable characters or more, and no blanks",
            hint='python -c "import secrets; print(secrets.token_urlsafe())" makes a good one.',
        )
    return token
