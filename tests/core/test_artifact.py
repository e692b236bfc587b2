"""Artifacts are written once, by one process, and a reader never sees half of one."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sae.core.artifact import MANIFEST, Store, damaged_files, open_artifact, taken_back
from sae.core.errors import InputError, WorldError

HASH = "0123456789abcdef"


def publish(store: Store, text: str = "hello") -> Path:
    with store.building("things", HASH) as building:
        (building.path / "inner").mkdir(exist_ok=True)
        (building.path / "inner" / "file.txt").write_text(text)
        return building.publish({"kind": "things", "hash": HASH, "metrics": {"n": 1}}).path


def test_published_artifact_is_found_whole(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    path = publish(store)
    found = store.find("things", HASH)
    assert found is not None
    assert found.path == path
    assert found.metrics == {"n": 1}
    assert list(found.manifest["files"]) == ["inner/file.txt"]
    assert damaged_files(found) == []


def test_unfinished_work_is_invisible_and_stays_for_the_resume(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with contextlib.suppress(KeyboardInterrupt), store.building("things", HASH) as building:
        (building.path / "half").write_text("half")
        raise KeyboardInterrupt
    assert store.find("things", HASH) is None
    with store.building("things", HASH) as building:
        assert (building.path / "half").read_text() == "half"


def test_a_folder_without_a_manifest_is_nobodys_and_is_not_replaced(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = publish(store)
    (path / MANIFEST).unlink()
    assert store.find("things", HASH) is None
    with pytest.raises(WorldError, match=r"is in the way: it has no manifest\.json"):
        publish(store)
    assert (path / "inner" / "file.txt").read_text() == "hello"


def test_what_another_process_published_since_is_not_built_again(tmp_path: Path) -> None:
    path = publish(Store(tmp_path))
    with pytest.raises(WorldError, match=r"was published by another process just now"):
        publish(Store(tmp_path))
    assert (path / "inner" / "file.txt").read_text() == "hello"


def test_a_manifest_that_cannot_be_read_is_not_called_damaged(tmp_path: Path) -> None:
    path = publish(Store(tmp_path))
    (path / MANIFEST).unlink()
    (path / MANIFEST).mkdir()
    with pytest.raises(WorldError, match=r"manifest\.json cannot be read: Is a directory"):
        open_artifact(path)


def test_what_a_kill_left_half_written_is_not_published(tmp_path: Path) -> None:
    with Store(tmp_path).building("things", HASH) as building:
        (building.path / "inner").mkdir()
        for name in ("kept.txt", ".tmpTl36yp", "inner/.tmpaB3x9Z"):
            (building.path / name).write_text("half")
        path = building.publish({"kind": "things", "hash": HASH, "metrics": {}}).path
    assert sorted(f.name for f in path.rglob("*") if f.is_file()) == ["kept.txt", "manifest.json"]


@pytest.mark.parametrize("n_synced", range(5))
def test_a_kill_while_publishing_leaves_what_a_resume_needs(tmp_path: Path, monkeypatch, n_synced: int) -> None:
    """Of a damaged artifact that is mended: its manifest, and what lies beside its files until they are published."""
    store = Store(tmp_path)
    path = publish(store)
    (path / "inner" / "file.txt").write_text("damaged")
    assert store.take_back("things", HASH)
    done = []

    def sync(file: Path) -> None:
        done.append(file)
        if len(done) > n_synced:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt), monkeypatch.context() as patched:
        patched.setattr("sae.core.artifact.sync", sync)
        with store.building("things", HASH) as building:
            (building.path / "inner" / "file.txt").write_text("hello")
            (building.path / "a.beside").write_text("of a")
            building.publish({"kind": "things", "hash": HASH, "metrics": {"n": 1}})
    if store.find("things", HASH) is None:
        with store.building("things", HASH) as building:
            assert taken_back(building.path)["metrics"] == {"n": 1}
            is_whole = n_synced >= 2  # the file and the new manifest are
            assert (building.path / "a.beside").exists() != is_whole
            building.publish({"kind": "things", "hash": HASH, "metrics": {"n": 1}})
    found = store.find("things", HASH)
    assert found is not None
    assert [file.name for file in found.path.iterdir() if file.is_file()] == [MANIFEST]
    assert (found.path / "inner" / "file.txt").read_text() == "hello"


def test_any_flipped_bit_of_a_manifest_is_found(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = publish(store)
    whole = (path / MANIFEST).read_bytes()
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << (place % 7)
        (path / MANIFEST).write_bytes(flipped)
        if json_or_none(bytes(flipped)) == json.loads(whole):
            continue  # white space
        for read in (lambda: open_artifact(path), lambda: store.find("things", HASH)):
            with pytest.raises(WorldError, match=r"manifest\.json is damaged"):
                read()


def json_or_none(text: bytes) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def test_what_a_damaged_manifest_still_vouches_for_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = publish(store)
    manifest = (path / MANIFEST).read_bytes()
    (path / MANIFEST).write_bytes(manifest.replace(b'"kind"', b'"kinf"'))
    (path / "untold").write_text("of nobody")
    assert store.take_back("things", HASH) == {MANIFEST: "", "untold": ""}
    with store.building("things", HASH) as building:
        assert sorted(file.name for file in building.path.rglob("*")) == ["file.txt", "inner"]
        assert taken_back(building.path) == {}
        building.publish({"kind": "things", "hash": HASH, "metrics": {}})
    digest = json.loads((path / MANIFEST).read_text())["files"]["inner/file.txt"]["sha256"]
    (path / MANIFEST).write_bytes((path / MANIFEST).read_bytes().replace(digest.encode(), b"0" + digest[1:].encode()))
    (path / "inner" / "file.txt").write_text("hellp")
    damaged = store.take_back("things", HASH)
    assert damaged is not None
    assert set(damaged) == {MANIFEST, "inner/file.txt"}


def test_an_artifact_of_format_1_has_no_checksum_of_its_manifest(tmp_path: Path) -> None:
    path = publish(Store(tmp_path))
    manifest = json.loads((path / MANIFEST).read_text())
    del manifest["manifest_sha256"]
    (path / MANIFEST).write_text(json.dumps(manifest | {"schema_version": 1}))
    assert damaged_files(open_artifact(path)) == []
    (path / MANIFEST).write_text(json.dumps(manifest | {"schema_version": 1, "files": {"inner/file.txt": {}}}))
    with pytest.raises(WorldError, match=r"manifest\.json is damaged"):
        open_artifact(path)


def test_files_may_be_read_by_whom_the_manifest_may(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.building("things", HASH) as building:
        (building.path / "file").touch(0o600)
        artifact = building.publish({"kind": "things", "hash": HASH, "metrics": {}})
    assert (artifact.path / "file").stat().st_mode == (artifact.path / MANIFEST).stat().st_mode


def test_of_parts_those_are_named_that_are_being_made(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.part(HASH, "000-of-002"):
        with store.part(HASH, "001-of-002"):
            pass
        with pytest.raises(WorldError, match=rf"process {os.getpid()} on "), store.building("things", HASH):
            pass


def test_the_second_builder_is_told_who_holds_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    code = f"""
import sys; from pathlib import Path; from sae.core.artifact import Store
with Store(Path({str(tmp_path)!r})).building("things", {HASH!r}):
    print("held", flush=True); sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(WorldError, match=f"process {holder.pid}"), store.building("things", HASH):
            pass
        holder.kill()
        holder.wait()
    assert publish(store).is_dir(), "the lock of a dead process is taken over"


def test_damage_is_named(tmp_path: Path) -> None:
    path = publish(Store(tmp_path))
    (path / "inner" / "file.txt").write_text("hullo")
    assert damaged_files(open_artifact(path)) == ["inner/file.txt"]
    (path / "inner" / "file.txt").write_text("short")
    (path / "inner" / "file.txt").write_text("shorter")
    with pytest.raises(WorldError, match=r"file\.txt has 7 bytes, its manifest says 5"):
        open_artifact(path)
    (path / "inner" / "file.txt").unlink()
    with pytest.raises(WorldError, match="is missing"):
        open_artifact(path)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = publish(Store(tmp_path))
    manifest = json.loads((path / MANIFEST).read_text())
    del manifest["manifest_sha256"]
    (path / MANIFEST).write_text(json.dumps({**manifest, "schema_version": 99}))
    with pytest.raises(WorldError, match="has format 99"):
        open_artifact(path)


def test_what_is_no_artifact_or_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no artifact"):
        open_artifact(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write to the store"):
        Store(tmp_path / "file" / "store")
