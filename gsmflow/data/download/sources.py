"""Where the benchmark archives are: one table, each line with the page that documents it."""

from collections.abc import Sequence
from dataclasses import dataclass

from gsmflow.core.errors import InputError

__all__ = ["SOURCES", "Source", "Wanted", "find_sources"]


@dataclass(frozen=True)
class Source:
    """A zip archive with files of datasets.

    Attributes
    ----------
    name
        By which it is asked for.
    url
        Where it is.
    page
        Where that is documented.
    what
        What is in it, for help texts.
    datasets
        The folders that it has files for.
    files
        What each of these folders holds that a layout of `gsmflow.mat` reads. Other files of the
        archive are left in it.
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
    """An archive, and those of its datasets that are wanted."""

    source: Source
    datasets: tuple[str, ...]

    @property
    def files(self) -> tuple[tuple[str, str], ...]:
        """The wanted files: dataset and file name of each."""
        return tuple((name, file) for name in self.datasets for file in self.source.files)


def find_sources(names: Sequence[str], sources: Sequence[Source] = SOURCES) -> list[Wanted]:
    """The archives that are asked for by name, or by the name of a dataset in them.

    Parameters
    ----------
    names
        Of archives, for all of their datasets, or of datasets; at least one, letters of any case.
    sources
        The table.

    Raises
    ------
    InputError
        If a name is neither.
    """
    known = {source.name: source.name for source in sources}
    known |= {name.lower(): name for source in sources for name in source.datasets}
    if not names:
        raise InputError(f"NAME: found none, expected one or more of {', '.join(known.values())}")
    for name in names:
        if name.lower() not in known:
            raise InputError(
                f"NAME: found {name!r}, expected one or more of {', '.join(known.values())}"
            )
    asked = {known[name.lower()] for name in names}
    wanted = [
        Wanted(
            source,
            tuple(name for name in source.datasets if asked & {source.name, name}),
        )
        for source in sources
    ]
    return [one for one in wanted if one.datasets]
