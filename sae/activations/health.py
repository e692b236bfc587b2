"""What is healthy or not about a site's activations, from what was summed over the train split."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from sae.activations.sums import SiteSums

FILE = "health.json"


def write(folder: Path, sums: Mapping[str, SiteSums], show: Callable[[int], str]) -> None:
    """Writes `health.json`.

    Args:
        show: the text of a token id.
    """
    sites = {}
    for site, of_site in sums.items():
        mean, total = float(of_site.moments.mean.norm()), of_site.moments.total_variance
        sites[site] = {"n_rows": of_site.moments.count, "gamma": mean / total**0.5 if total > 0 else 0.0}
    (folder / FILE).write_text(json.dumps({"split": "train", "sites": sites}, indent=1) + "\n", encoding="utf-8")
