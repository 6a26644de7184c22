"""Files that are complete or absent, and JSON that everybody reads."""

import json
import math
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Union


def write_atomically(file: str, content: Union[str, bytes]) -> None:
    """Write a file aside, flush it, and rename it into place.

    Its folder is made; text becomes UTF-8. A process that is killed in between
    leaves ``FILE.*.tmp`` behind, which nothing reads.

    Raises:
        OSError: The former file stays, and the error has its name.
    """
    if isinstance(content, str):
        content = content.encode()
    file = os.path.abspath(file)
    os.makedirs(os.path.dirname(file), exist_ok=True)
    aside = f'{file}.{uuid.uuid4().hex[:8]}.tmp'
    try:
        with open(aside, 'xb') as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        os.replace(aside, file)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(aside)
        if isinstance(error, OSError):
            error.filename = file
        raise


def to_json(value: Any, **options: Any) -> str:
    """Write anything as valid JSON; the options are those of ``json.dumps``.

    Arrays and tensors become lists, a number that is not finite becomes null,
    and what JSON has no word for becomes its text.
    """
    return json.dumps(_plain(value), allow_nan=False, **options)


def _plain(value):
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    if hasattr(value, 'tolist'):
        return _plain(value.tolist())
    return str(value)
