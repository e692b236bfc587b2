"""What a model's reference stands for: a folder, or a hub name with its commit; and the fingerprint of its content.

The fingerprint of a folder is the SHA-256 over names and contents of its configuration, weights and tokenizer; of a
hub model, the commit that its revision resolves to. Either follows from content and never from a path.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from sae.core.errors import InputError

_FINGERPRINTED = (
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "pytorch_model*.bin",
    "tokenizer*",
    "vocab.*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "additional_chat_templates/*",
)


def fingerprint(ref: str | Path) -> str:
    """The content fingerprint of a folder or hub name, without loading anything.

    Raises:
        InputError: as `load_model`.
    """
    return resolve(str(ref)).fingerprint()


@dataclass(frozen=True)
class Source:
    """A folder on this disk (`commit` None), or a hub name with its commit."""

    location: str
    commit: str | None = None

    def fingerprint(self) -> str:
        return self.commit or _folder_fingerprint(Path(self.location))


def _folder_fingerprint(folder: Path) -> str:
    files = sorted({path for pattern in _FINGERPRINTED for path in folder.glob(pattern) if path.is_file()})
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            digest.update(f"{path.name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def resolve(ref: str) -> Source:
    folder = Path(ref).expanduser()
    if _is_path(ref):
        if not folder.is_dir():
            raise InputError(
                f"no model folder {ref}; a model is a folder or a hub name like gpt2 or owner/name@revision"
            )
        if not (folder / "config.json").is_file():
            raise InputError(f"{ref} is not a model folder: it has no config.json")
        _check_config(ref, folder / "config.json")
        return Source(str(folder))
    name, _, revision = ref.partition("@")
    return Source(name, _commit(ref, name, revision or None))


def _is_path(ref: str) -> bool:
    """A folder, or something that can only have been meant as one: hub names are `name` or `owner/name`."""
    looks = ref.startswith((".", "/", "~")) or "\\" in ref or ref.count("/") > 1
    folder = Path(ref)
    return looks or folder.is_dir() or (str(folder.parent) != "." and folder.parent.exists())


def _check_config(ref: str, path: Path) -> None:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise InputError(f"{ref} is not a model folder: its config.json is not JSON") from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise InputError(f"{ref} is not a model folder: its config.json names no model_type")


def offline() -> bool:
    """Read at call time: the hub's library reads the variable only when it is imported."""
    return any(
        os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"}
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )


def _commit(ref: str, name: str, revision: str | None) -> str:
    """The commit that a hub name's revision stands for, from the hub or from the cache."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    without_hub = offline()
    try:
        path = hf_hub_download(name, "config.json", revision=revision, local_files_only=without_hub)
    except HFValidationError:
        raise InputError(f"{ref!r} is neither a folder nor a hub name like gpt2 or owner/name@revision") from None
    except LocalEntryNotFoundError:
        why = "HF_HUB_OFFLINE is set" if without_hub else "the hub cannot be reached"
        raise InputError(f"model {ref!r} is not a folder and not in the hub's cache, and {why}") from None
    except EntryNotFoundError:
        raise InputError(f"hub model {ref!r} has no config.json: not a model for transformers") from None
    except (HfHubHTTPError, OSError) as error:
        raise InputError(f"hub model {ref!r} cannot be had: {first_line(error)}") from None
    return Path(path).parent.name


def first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
