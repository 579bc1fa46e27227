# SPDX-License-Identifier: Apache-2.0
"""python-tuf's way to files: out of a folder, never over a network."""

from collections.abc import Iterator
from pathlib import Path

from tuf.api.exceptions import DownloadError, DownloadHTTPError
from tuf.ngclient.fetcher import FetcherInterface

from fedmill_shared.trust import is_metadata_file, is_target_file

METADATA_URL = "folder:///metadata/"
TARGETS_URL = "folder:///targets/"
PIECE = 65_536


class FolderFetcher(FetcherInterface):
    """Reads ``metadata/`` and ``targets/`` below a folder, and no name that is not ours."""

    def __init__(self, folder: Path) -> None:
        """Read from ``folder``."""
        self._folder = folder

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = self._folder / self._inside(url)
        if path.is_symlink() or not path.is_file():
            raise DownloadHTTPError(f"{path.name} is not there", 404)
        return _pieces(path)

    def _inside(self, url: str) -> str:
        for base, known in ((METADATA_URL, is_metadata_file), (TARGETS_URL, is_target_file)):
            name = url.removeprefix(base)
            if name != url and known(name):
                return url.removeprefix("folder:///")
        raise DownloadError(f"{url}: nothing of ours is called so")


def _pieces(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece
    except OSError as error:
        raise DownloadError(f"{path.name} cannot be read") from error
