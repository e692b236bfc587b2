"""Conversations to texts: a column of messages, rendered with a chat template."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from sae.core.errors import InputError, nearest

_CANNOT_RENDER = (
    TemplateError, TypeError, ValueError, LookupError, ArithmeticError, RecursionError, MemoryError,
)  # fmt: skip
"""What a template's code raises: it is a program, and may call itself without end or ask for more than there is."""


def chat_renderer(tokenizer: Any, template: str) -> Callable[[object, str], str]:
    """A function from messages, and the place where they stand, to text.

    Args:
        tokenizer: one of Hugging Face.
        template: the name of one of its templates, or a file's absolute path.

    Raises:
        InputError: no such template; from the function, messages that it cannot render.
    """
    source = _template(tokenizer, template)

    def render(messages: object, where: str) -> str:
        _check_messages(messages, where)
        try:
            return tokenizer.apply_chat_template(messages, tokenize=False, chat_template=source)
        except _CANNOT_RENDER as error:
            problem = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"{where}: text.chat_template {template!r} cannot render it: {problem}") from None

    return render


def _template(tokenizer: Any, template: str) -> str:
    if Path(template).is_absolute():
        return read_template(Path(template))
    own = tokenizer.chat_template
    templates: dict[str, str] = own if isinstance(own, dict) else {"default": own} if own else {}
    if not templates:
        raise InputError(
            f"text.chat_template {template!r}: the model's tokenizer has no chat template; give a file with one"
        )
    if template not in templates:
        hint = nearest(template, templates) or "."
        raise InputError(
            f"no chat template {template!r}{hint} The tokenizer has {', '.join(templates)} (key text.chat_template); "
            f"a file may be given instead"
        )
    return templates[template]


def read_template(file: Path) -> str:
    """A template's file.

    Raises:
        InputError: no such file, or one that is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"no chat template at {file} (key text.chat_template)") from None
    except (IsADirectoryError, UnicodeDecodeError):
        raise InputError(f"{file} is no chat template in UTF-8 (key text.chat_template)") from None


def _check_messages(messages: object, where: str) -> None:
    each: list[Any] = messages if isinstance(messages, list) else []
    if not each or not all(isinstance(message, dict) and isinstance(message.get("role"), str) for message in each):
        raise InputError(
            f"{where}: text.chat_template needs messages, a list of objects with `role` and `content` "
            f"(key text.column), got {repr(messages)[:80]}"
        )
