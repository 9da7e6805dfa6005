"""Folders of models on the Hugging Face Hub, by the documented functions of huggingface_hub."""

import json
from pathlib import Path
from typing import Any

from kgt_lightning.config.extras import require

WEIGHTS, INFO, CARD = "model.safetensors", "config.json", "README.md"
"""Files of a model, named as the Hub expects them."""
_TOLD = {"name": str, "version": str, "experimental": bool, "sha256": str}


def fetch(repo_id: str, *, download: bool, revision: str | None) -> Path:
    """Folder with the model of this name: fetched now, or before.

    Raises:
        ValueError: if it is neither a name on the Hub nor there.

    """
    where = f"{repo_id} is no folder, and"
    if repo_id.count("/") != 1:
        raise ValueError(f"{where} no name on the Hub, which is owner/name: name one of both")
    require("from_pretrained of the Hub", "hub", "huggingface_hub")
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            repo_id, revision=revision, allow_patterns=[WEIGHTS, INFO], local_files_only=not download
        )
    except (OSError, ValueError) as error:  # all that huggingface_hub raises
        if not download:
            raise ValueError(f"{where} was not fetched before: download=True fetches it from the Hub") from error
        raise ValueError(f"{where} cannot be fetched from the Hub ({_reason(error)}): see its name there") from error
    return Path(found)


def push(folder: Path, repo_id: str, *, private: bool, message: str) -> str:
    """Address of the model, whose files were sent in one commit.

    Raises:
        ValueError: if they cannot be sent.

    """
    require("push_to_hub", "hub", "huggingface_hub")
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        url = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=message)
    except (OSError, ValueError) as error:
        raise ValueError(f"{repo_id} cannot be sent to the Hub ({_reason(error)}): log in by hf auth login") from error
    return str(url)


def read_info(folder: Path) -> dict[str, Any]:
    """What the folder of a model alone can tell, in ``config.json``: name, version, experimental and sha256.

    Raises:
        ValueError: if it is missing or tells something else.

    """
    file = folder / INFO
    try:
        told = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{file} cannot be read ({_reason(error)}): kgt export format=safetensors writes it"
        ) from error
    for name, kind in _TOLD.items():
        if not isinstance(told, dict) or not isinstance(told.get(name), kind):
            raise ValueError(f"{file} does not tell {name}: kgt export format=safetensors writes it")
    return told


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
