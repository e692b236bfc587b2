"""metrics.jsonl of a run that resumes: cut back to its checkpoint, so that it has no gaps or doubles."""

import json
import os
from pathlib import Path


def cut_back(path: Path, step: int) -> int:
    """Removes the records after `step` and a torn last line; returns how many records stay.

    A missing file is an empty history.
    """
    if not path.exists():
        return 0
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            break
        if record["step"] > step:
            break
        kept.append(line)
    cut = path.with_name(path.name + ".cut")
    cut.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    os.replace(cut, path)
    return len(kept)
