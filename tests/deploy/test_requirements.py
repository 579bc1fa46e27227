# SPDX-License-Identifier: Apache-2.0
"""What a bundle is made of is what was tested, and all of it."""

import errno
import importlib.util
import os
import shutil
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

REQUIREMENTS = Path(__file__).resolve().parents[2] / "deploy" / "requirements"


def _load(name: str) -> ModuleType:
    """A program of ``deploy/``, which is no package."""
    spec = importlib.util.spec_from_file_location(f"deploy_{name}", REQUIREMENTS / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pins() -> ModuleType:
    """The program that writes the files."""
    return _load("pins")


@pytest.fixture(scope="module")
def bundle() -> ModuleType:
    """The program that makes bundles."""
    return _load("bundle")


class TestPins:
    @pytest.mark.parametrize("kind", ["agent", "coordinator", "control"])
    def test_name_all_that_is_needed(self, pins: ModuleType, kind: str) -> None:
        """Every distribution of the closure is pinned, on both architectures; `make pins` does."""
        written = (REQUIREMENTS / f"{kind}.txt").read_text()
        pinned = {Requirement(line).name for line in written.splitlines() if line[:1] != "#"}
        needed = {Requirement(line).name for line in pins.text(pins.KINDS[kind]).splitlines()[2:]}
        assert needed == pinned

    @pytest.mark.parametrize("kind", ["agent", "coordinator", "control"])
    def test_are_exact(self, kind: str) -> None:
        """A bundle that is made again a year later is the same."""
        lines = (REQUIREMENTS / f"{kind}.txt").read_text().splitlines()[2:]
        specifiers = [next(iter(Requirement(line).specifier)) for line in lines]
        assert {each.operator for each in specifiers} == {"=="}

    def test_of_a_gateway_leave_the_coordinator_out(self) -> None:
        """No database toolkit and no exporter on gateways."""
        names = (REQUIREMENTS / "agent.txt").read_text()
        assert "sqlalchemy" not in names
        assert "onnxscript" not in names

    def test_of_both_sides_agree(self) -> None:
        """One archive serves all machines, so there is one version of each."""
        versions: dict[str, str] = {}
        for kind in ("agent", "coordinator"):
            for line in (REQUIREMENTS / f"{kind}.txt").read_text().splitlines()[2:]:
                name, _, version = line.partition("==")
                assert versions.setdefault(name, version) == version


class TestBundle:
    def _wheel(self, folder: Path, name: str, metadata: str = "") -> Path:
        path = folder / name
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x-1.dist-info/METADATA", metadata)
        return path

    def test_pins_depend_on_the_architecture(
        self, bundle: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """A line with a marker counts for the machines that it names."""
        text = '# head\na==1\nb==2 ; platform_machine == "aarch64"\n'
        (tmp_path / "agent.txt").write_text(text)
        monkeypatch.setattr(bundle, "HERE", tmp_path)
        assert bundle.pins("agent", "aarch64") == ["a==1", "b==2"]
        assert bundle.pins("agent", "x86_64") == ["a==1"]

    def test_refuses_torch_for_graphics_cards(self, bundle: ModuleType, tmp_path: Path) -> None:
        """The remedy names what to do instead."""
        needs = "Requires-Dist: nvidia-nccl-cu13==2.29.7\n"
        wheel = self._wheel(tmp_path, "torch-2.13.0-cp311-cp311-linux_aarch64.whl", needs)
        with pytest.raises(bundle.BundleError, match="PIP_FIND_LINKS"):
            bundle._refuse_gpu(wheel)

    def test_a_lock_names_the_local_version(self, bundle: ModuleType, tmp_path: Path) -> None:
        """The build for processors has one, and pip finds it only by that."""
        wheel = self._wheel(tmp_path, "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl")
        bundle._lock(tmp_path / "lock", [wheel])
        assert (tmp_path / "lock").read_text().startswith("torch==2.13.0+cpu --hash=sha256:")
        assert bundle._pin_of(wheel) == "torch==2.13.0"

    def _other(self, bundle: ModuleType, folder: Path, architecture: str) -> Path:
        """A bundle with today's pins."""
        shutil.copytree(REQUIREMENTS, folder / "deploy/requirements")
        (folder / "VERSION").write_text(f"1.0.0 {architecture}\n")
        for name in ("requirements", "control"):
            (folder / name).mkdir()
            (folder / name / "a.lock").write_text("a==1\n")
        for name in ("wheels.tar", "requirements.lock"):
            (folder / name).write_text(architecture)
        return folder

    def test_wheels_of_another_bundle_are_those_of_its_architecture(
        self, bundle: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The pins alone say nothing of it."""
        monkeypatch.setattr(bundle, "_download", lambda *_: pytest.fail("for nothing"))
        other = self._other(bundle, tmp_path / "other", "x86_64")
        new = tmp_path / "new"
        new.mkdir()
        bundle._others(new, "x86_64", other)
        assert (new / "wheels.tar").read_text() == "x86_64"
        assert (new / "control/a.lock").exists()
        assert not bundle._same_parts(other, "aarch64")

    def test_another_bundle_may_lie_on_another_file_system(
        self, bundle: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where files cannot be linked they are copied."""

        def refuse(*_: object) -> None:
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        monkeypatch.setattr(os, "link", refuse)
        new = tmp_path / "new"
        new.mkdir()
        bundle._others(new, "x86_64", self._other(bundle, tmp_path / "other", "x86_64"))
        assert (new / "wheels.tar").read_text() == "x86_64"
        assert (new / "requirements/a.lock").read_text() == "a==1\n"

    def test_a_folder_that_is_no_bundle_is_named(self, bundle: ModuleType, tmp_path: Path) -> None:
        """And no traceback shown."""
        with pytest.raises(bundle.BundleError, match=f"--others {tmp_path}"):
            bundle._same_parts(tmp_path, "x86_64")

    def test_archives_of_the_same_wheels_are_the_same(
        self, bundle: ModuleType, tmp_path: Path
    ) -> None:
        """Whoever makes them, and when."""
        wheel = self._wheel(tmp_path, "a_b-1-py3-none-any.whl")
        bundle._archive(tmp_path / "one.tar", [wheel])
        wheel.touch()
        bundle._archive(tmp_path / "two.tar", [wheel])
        assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
