"""Writes the files of a command into a draft folder, and moves them to their place at the end, or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.files import make_folder, move_new

__all__ = ["Draft", "open_draft"]


class Draft:
    """A folder that is not seen under its final name until :meth:`publish`."""

    def __init__(self, folder: Path, target: Path) -> None:
        self.folder, self.target = folder, target

    def publish(self, last: str) -> None:
        """Move everything into the target folder, the file ``last`` at the end.

        After an error or an interrupt, nothing of it stays there. Raises ``document_exists`` if a name is taken.
        """
        moved: list[Path] = []
        try:
            for source in sorted(self.folder.iterdir(), key=lambda path: (path.name == last, path.name)):
                target = self.target / source.name
                moved.append(target)
                try:
                    move_new(source, target)
                except FileExistsError:
                    moved.remove(target)  # it is of another run
                    raise BillingError(
                        "document_exists", f"{safe_repr(str(target), 200)} exists already; choose another folder"
                    ) from None
        except BaseException:
            for path in moved:
                with suppress(OSError):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            raise


@contextmanager
def open_draft(target: Path) -> Iterator[Draft]:
    """Create a draft folder within a target folder. Both are removed at the end, the target only if it is empty."""
    make_folder(target)
    try:
        with tempfile.TemporaryDirectory(prefix=".draft-", dir=target) as folder:
            yield Draft(Path(folder), target)
    finally:
        with suppress(OSError):
            target.rmdir()  # fails if the folder is not empty
