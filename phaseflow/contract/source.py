"""The files of a source."""

from __future__ import annotations

from dataclasses import dataclass

from phaseflow import checks
from phaseflow.errors import ContractError


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file of a source."""

    url: str
    """Public address. It is empty if only the mirror or the project folder contains the data."""
    mirror: str
    """Name of the file in the folder `PHASEFLOW_DATA_MIRROR`."""
    sha256: str = ""
    """Checksum of the file at `url`. Without it, downloads are refused and the file of the mirror is not checked."""
    mirror_sha256: tuple[str, ...] = ()
    """Checksums of other copies of the same data in the mirror, for example with other line endings or compression."""

    def __post_init__(self) -> None:
        if self.url and not self.url.startswith(("https://", "http://", "file://")):
            raise ContractError(
                f"Source.url is {self.url!r}; allowed: https://, http://, file:// or empty",
                fix="Use the full address of the file",
            )
        checksums = [("sha256", self.sha256), *(("mirror_sha256", digest) for digest in self.mirror_sha256)]
        for name, digest in checksums:
            if digest and (len(digest) != 64 or not all(c in "0123456789abcdef" for c in digest)):
                raise ContractError(
                    f"Source.{name} is {digest!r}; allowed: 64 hexadecimal digits",
                    fix="Use the output of `sha256sum FILE`",
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The source of the data: the mirror folder, else the public address, else the generated sample of the project."""

    url: str
    """Address of the first file, as in `File`."""
    mirror: str
    """Name of the first file in the mirror, as in `File`."""
    sample: str
    """`sample(seed: int) -> bytes` in the format of the source, or a tuple with the bytes of each file."""
    read: str = ""
    """`read(*contents: bytes) -> polars.DataFrame`, with one argument per file. The default is a strict CSV reader."""
    sha256: str = ""
    """Checksum of the first file, as in `File`."""
    mirror_sha256: tuple[str, ...] = ()
    """Checksums of other copies of the first file, as in `File`."""
    more: tuple[File, ...] = ()
    """Further files of the source, such as the labels of images."""
    license: str = ""
    """License of the data."""
    minimum_rows: int = 20
    """Minimum number of rows. Loading a smaller source fails."""

    def __post_init__(self) -> None:
        checks.distinct("Source.mirror", [file.mirror for file in self.files if file.mirror])
        checks.reference("Source.sample", self.sample)
        if self.read:
            checks.reference("Source.read", self.read)
        elif self.more:
            raise ContractError(
                "Source.read is empty, but the source has several files",
                fix="Set Source.read to a function that takes the contents of all files",
            )
        checks.within("Source.minimum_rows", self.minimum_rows, 1, 1e9, "rows")

    @property
    def files(self) -> tuple[File, ...]:
        """All files, in the order of the arguments of `read`."""
        first = File(url=self.url, mirror=self.mirror, sha256=self.sha256, mirror_sha256=self.mirror_sha256)
        return (first, *self.more)
