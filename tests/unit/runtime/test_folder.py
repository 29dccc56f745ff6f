"""The data folder: what is made of a folder that is there already."""

import stat
from pathlib import Path

import pytest

from schemas.errors import ConfigError
from services.runtime.folder import DataFolder


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folder_of_other_things_is_neither_used_nor_closed_to_others(tmp_path: Path) -> None:
    # Given a folder with somebody's files that others may read, when it is named as the data
    # folder, then it is refused and stays as it was.
    folder = tmp_path / "home"
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "thesis.txt").write_text("x")
    with pytest.raises(ConfigError, match="holds other things and is no data folder"):
        DataFolder(folder)
    assert mode_of(folder) == 0o755
    assert [entry.name for entry in folder.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("content", [None, "lost+found", "secrets"])
def test_new_empty_and_own_folders_are_used_and_closed_to_others(
    tmp_path: Path, content: str | None
) -> None:
    # Given a folder that is empty, a fresh file system, or a data folder whose mode was loosened,
    # then it is used, and only its owner may enter it.
    folder = tmp_path / "data"
    folder.mkdir()
    if content is not None:
        (folder / content).mkdir()
    folder.chmod(0o755)
    DataFolder(folder)
    assert mode_of(folder) == 0o700
    DataFolder(tmp_path / "new")
    assert mode_of(tmp_path / "new") == 0o700


def test_private_folder_with_other_things_may_hold_the_data_too(tmp_path: Path) -> None:
    # Given a folder that was closed to others by its owner, then nothing is taken from anybody.
    folder = tmp_path / "mine"
    folder.mkdir(mode=0o700)
    (folder / "config.yaml").write_text("")
    DataFolder(folder)
    assert mode_of(folder) == 0o700


def test_master_key_is_made_once_and_an_emptied_file_is_said(tmp_path: Path) -> None:
    # Given a fresh folder, then the key that is made is kept; given its file emptied, then nobody
    # gets an empty master key.
    folder = DataFolder(tmp_path / "data")
    key = folder.master_key()
    assert key.startswith("sk-master-")
    assert folder.master_key() == key
    assert mode_of(folder.master_key_file) == 0o600
    folder.master_key_file.write_text("\n")
    with pytest.raises(ConfigError, match="is empty: delete it"):
        folder.master_key()
