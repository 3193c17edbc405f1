"""The benchmark archives: where they are, what is in them, and which page documents them."""

from collections.abc import Sequence
from dataclasses import dataclass

from gsmflow.core.errors import InputError
from gsmflow.core.nearest import such_as

__all__ = ["SOURCES", "Source", "Wanted", "find_sources"]


@dataclass(frozen=True)
class Source:
    """A zip archive with files of datasets.

    Attributes
    ----------
    name
        Its name on the command line.
    url
        Its address.
    page
        The page that documents it.
    what
        Its content, for help texts.
    datasets
        The datasets in it; each is a folder.
    files
        The files of each dataset that `gsmflow.data.formats` reads. Other files in the archive
        are not unpacked.
    """

    name: str
    url: str
    page: str
    what: str
    datasets: tuple[str, ...]
    files: tuple[str, ...]


SOURCES = (
    Source(
        name="xlsa17",
        url="http://datasets.d2.mpi-inf.mpg.de/xian/xlsa17.zip",
        page="https://www.mpi-inf.mpg.de/departments/computer-vision-and-machine-learning/research/"
        "zero-shot-learning/zero-shot-learning-the-good-the-bad-and-the-ugly",
        what="ResNet-101 features, attributes and proposed splits (version 2.0)",
        datasets=("AWA1", "AWA2", "APY", "CUB", "SUN"),
        files=("res101.mat", "att_splits.mat"),
    ),
    Source(
        name="cvpr18xian",
        url="http://datasets.d2.mpi-inf.mpg.de/xian/cvpr18xian.zip",
        page="https://www.mpi-inf.mpg.de/departments/computer-vision-and-machine-learning/research/"
        "zero-shot-learning/feature-generating-networks-for-zero-shot-learning",
        what="ResNet-101 features, sentence vectors and splits of Oxford Flowers",
        datasets=("FLO",),
        files=("res101.mat", "att_splits.mat"),
    ),
    Source(
        name="cub-sentences",
        url="https://github.com/Hanzy1996/CE-GZSL/archive/"
        "1010bd15fd0166d41791e96357b8ce27522bf236.zip",
        page="https://github.com/Hanzy1996/CE-GZSL#datasets",
        what="1024-d sentence vectors of CUB, as published with CE-GZSL",
        datasets=("CUB",),
        files=("sent_splits.mat",),
    ),
)


@dataclass(frozen=True)
class Wanted:
    """An archive and the datasets to take from it."""

    source: Source
    datasets: tuple[str, ...]

    @property
    def files(self) -> tuple[tuple[str, str], ...]:
        """Dataset and name of each file to take."""
        return tuple((name, file) for name in self.datasets for file in self.source.files)


def find_sources(names: Sequence[str], sources: Sequence[Source] = SOURCES) -> list[Wanted]:
    """Find the archives with these names, or with datasets of these names.

    Parameters
    ----------
    names
        Names of archives, for all of their datasets, or of datasets; at least one. Case does not
        matter.
    sources
        The known archives.

    Raises
    ------
    InputError
        If a name is unknown, or there is none.
    """
    known = {source.name: source.name for source in sources}
    known |= {name.lower(): name for source in sources for name in source.datasets}
    if not names:
        raise InputError(f"NAME: found none, expected one or more of {', '.join(known.values())}")
    for name in names:
        if name.lower() not in known:
            raise InputError(
                f"NAME: found {name!r}, expected one or more of {', '.join(known.values())}"
                f"{such_as(name, known.values())}"
            )
    requested = {known[name.lower()] for name in names}
    wanted = [
        Wanted(
            source,
            tuple(name for name in source.datasets if requested & {source.name, name}),
        )
        for source in sources
    ]
    return [one for one in wanted if one.datasets]
