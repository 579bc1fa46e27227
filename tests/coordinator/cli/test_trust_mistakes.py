# SPDX-License-Identifier: Apache-2.0
"""``fedmill trust`` where something is missing, damaged or another's: one line and an exit code."""

from pathlib import Path

import pytest
from tests.coordinator.cli.test_trust import Desk

from fedmill_shared.audit import FILE


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A plant whose keys were just made; no mistake changes it."""
    desk = Desk(tmp_path_factory.mktemp("plant"))
    desk.done("init", "--keys", desk.keys)
    (desk.folder / "empty").write_text("\n")
    (desk.folder / "binary").write_bytes(b"\xff\xfe")
    (desk.folder / "bad.toml").write_text("[job]\nname = 1\n")
    (desk.folder / "each.toml").write_text(desk.job.read_text().replace('"last"', '"each"'))
    (desk.folder / "overlay.toml").write_text("[training]\nnice = 5\n")
    (desk.folder / "evil.toml").write_text('[broker]\nhost = "evil"\n')
    return desk


MISTAKES = [
    ("add-job {folder}/nowhere.toml --key {targets}", 2, "does not exist"),
    ("add-job {folder} --key {targets}", 2, "is a directory"),
    ("add-job {folder}/bad.toml --key {targets}", 11, "job.name"),
    ("add-job {folder}/each.toml --key {targets}", 25, 'give "better", "last" or "manual"'),
    ("add-job {job}", 2, "--key"),
    ("add-job {job} --key {root-1}", 25, "not the key of targets"),
    ("add-job {job} --key {folder}/empty", 25, "no private key can be read"),
    ("add-job {job} --key {targets-public}", 25, "is this the private key?"),
    ("add-job {job} --key {targets} --passphrase-file {folder}/empty", 25, "first line is empty"),
    ("add-job {job} --key {targets} --passphrase-file {folder}/binary", 25, "no passphrase"),
    ("add-job {job} --key {targets} --passphrase-file {folder}/overlay.toml", 25, "no passphrase"),
    ("remove-job nowhere --key {targets}", 25, "jobs/nowhere.toml: is not signed"),
    ("set-config all {folder}/evil.toml --key {targets}", 10, "broker"),
    ("set-config all {folder}/binary --key {targets}", 25, "is not UTF-8 text"),
    ("set-config ../all {folder}/overlay.toml --key {targets}", 25, "names no agent"),
    ("set-config all --remove --key {targets}", 25, "config/all.toml: is not signed"),
    ("set-config all {folder}/overlay.toml --remove --key {targets}", 2, "either FILE or"),
    ("add-software {job} --key {targets}", 25, "not the key of software"),
    ("add-software {folder} --key {software}", 2, "is a directory"),
    ("renew models --key {targets}", 2, "is not one of"),
    ("renew software --key {targets}", 25, "not the key of software"),
    ("renew targets --key {software}", 25, "not the key of targets"),
    ("replace-key root {root-1} --key {targets}", 2, "is not one of"),
    ("replace-key software {folder}/empty --key {targets}", 25, "no public key can be read"),
    ("replace-key software {software-public} --key {software}", 25, "not the key of targets"),
    ("root prepare --out {folder}/x --replace root-9={root-1}", 25, "no key called 'root-9'"),
    ("root prepare --out {folder}/x --replace root-1={folder}/no", 25, "cannot be read"),
    ("root prepare --out {folder}/x --replace root-1={root-2}", 25, "is the one of root-2"),
    ("root prepare --out {root-1}", 25, "is no metadata"),
    ("root prepare --out {folder}/nowhere/x", 21, "cannot be written"),
    ("root import {job}", 25, "is no metadata"),
    ("root import {first}", 25, "prepare it anew"),
]


@pytest.mark.parametrize(("line", "code", "told"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_mistake_changes_nothing_and_is_told(desk: Desk, line: str, code: int, told: str) -> None:
    """With its exit code, and nothing in the audit log: it was not done."""
    names = ("root-1", "root-2", "targets", "software")
    keys = {name: str(desk.key(name)) for name in names}
    keys |= {f"{name}-public": str(desk.key(name).with_suffix(".pub.pem")) for name in names}
    first = desk.folder / "trust" / "metadata" / "1.root.json"
    for name, path in {**keys, "folder": desk.folder, "job": desk.job, "first": first}.items():
        line = line.replace("{" + name + "}", str(path))
    before = contents(desk.folder)
    result = desk.trust(*line.split())
    assert (result.exit_code, told in result.output) == (code, True), result.output
    assert contents(desk.folder) == before


def contents(folder: Path) -> dict[str, bytes]:
    """Every key, every file of metadata and targets, and the audit log."""
    places = [*folder.glob("sticks/**/*"), *folder.glob("keys/*"), *folder.glob("trust/*/**/*")]
    places.append(folder / "state" / FILE)
    signed = [path for path in places if path.is_file() and "targets/" not in str(path)]
    return {str(path): path.read_bytes() for path in signed}
