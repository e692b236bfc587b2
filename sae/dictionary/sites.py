"""Which places of one model a dictionary reads, and in which it writes, when it is spliced in."""

from typing import NamedTuple

from sae.core.errors import InputError
from sae.dictionary.config import DictionaryConfig


class SpliceSites(NamedTuple):
    """Sites whose activations stand side by side, in order."""

    read: tuple[str, ...]
    written: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        """Every site, once."""
        return tuple(dict.fromkeys(self.read + self.written))

    def __str__(self) -> str:
        read, written = " + ".join(self.read), " + ".join(self.written)
        return read if read == written else f"{read} → {written}"


def one(site: str) -> SpliceSites:
    """A site that is read and written."""
    return SpliceSites((site,), (site,))


def splice_sites(config: DictionaryConfig, default: str) -> SpliceSites:
    """The sites of a dictionary; an autoencoder that names none was trained at `default`.

    Raises:
        InputError: its sites lie in two models, so that no single one can be run with it.
    """
    if config.parts:
        if len({part.model for part in config.parts}) > 1:
            raise InputError(
                "a crosscoder of two models is not spliced into one of them; leave out the sections after train, and "
                "use its weights from Python"
            )
        sites = tuple(part.site or default for part in config.parts)
        return SpliceSites(sites, sites)
    read = config.site or default
    return SpliceSites((read,), (config.target or read,))
