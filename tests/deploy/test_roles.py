# SPDX-License-Identifier: Apache-2.0
"""What roles promise: every variable described, secrets silent, handlers harmless in a check."""

import json
import os
import tomllib
from pathlib import Path

import pytest
from tests.deploy.roles import ANSIBLE, ROLES, all_tasks, load, played, role_tasks


@pytest.mark.parametrize("role", ROLES)
class TestRole:
    def test_describes_every_variable(self, role: str) -> None:
        """`argument_specs` and `defaults` name the same, with a type and a sentence each."""
        options = load(ANSIBLE / "roles" / role / "meta/argument_specs.yml")["argument_specs"]
        described = options["main"]["options"]
        assert described.keys() == load(ANSIBLE / "roles" / role / "defaults/main.yml").keys()
        assert all(each["type"] and each["description"] for each in described.values())

    def test_defaults_are_those_that_it_describes(self, role: str) -> None:
        """Whoever reads the description knows what happens without the variable."""
        folder = ANSIBLE / "roles" / role
        described = load(folder / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
        for name, value in load(folder / "defaults/main.yml").items():
            if "groups[" not in str(value):  # a sentence says it better
                assert described[name]["default"] == value, name

    def test_variables_have_its_name(self, role: str) -> None:
        """So that two roles never mean different things by one name."""
        for place in ("defaults/main.yml", "vars/main.yml"):
            names = load(ANSIBLE / "roles" / role / place) or {}
            assert [name for name in names if not name.startswith(f"{role}_")] == []

    def test_says_nothing_of_secrets(self, role: str) -> None:
        """What touches them prints neither values nor differences."""
        touching = [task for task in all_tasks(role) if "_secrets[" in str(task)]
        assert all(task["no_log"] for task in touching)

    def test_handlers_do_nothing_in_a_check(self, role: str) -> None:
        """On a fresh machine there is no service yet that they could restart."""
        path = ANSIBLE / "roles" / role / "handlers/main.yml"
        handlers = load(path) if path.exists() else []
        assert all(each["when"] == "not ansible_check_mode" for each in handlers)

    def test_what_is_included_runs_under_the_tags_of_its_role(self, role: str) -> None:
        """An include hands its own on to nothing: `--tags common_install` would install nothing."""
        included = [task for task in all_tasks(role) if "ansible.builtin.include_tasks" in task]
        for task in included:
            assert task["ansible.builtin.include_tasks"]["apply"]["tags"] == ["always"]


class TestReleases:
    @pytest.mark.parametrize("part", ["deps", "release"])
    def test_complete_is_said_of_what_is_on_the_disk(self, part: str) -> None:
        """A plug that is pulled a moment later leaves no release that looks whole."""
        *_, sync, last = load(ANSIBLE / f"roles/common/tasks/install_{part}.yml")
        folder = f"{{{{ common_internal_{part} }}}}"
        assert sync["ansible.builtin.command"]["argv"] == ["sync", "--file-system", folder]
        assert last["ansible.builtin.copy"]["dest"] == f"{folder}/complete"

    def _root(self, folder: Path) -> Path:
        """Where releases are, by a way that leads over a link, as where /opt is on another disk."""
        (folder / "disk").mkdir()
        root = folder / "opt"
        root.symlink_to("disk")
        for number, deps in enumerate(("old", "old", "new", "new")):
            release = root / f"releases/0.1.{number}"
            release.mkdir(parents=True)
            (root / "deps" / deps).mkdir(parents=True, exist_ok=True)
            (release / "deps").symlink_to(root / "deps" / deps)
            os.utime(release, (number, number))
        (root / "deps/useless").mkdir()
        return root

    def _names(self, folder: Path) -> list[str]:
        return sorted(path.name for path in folder.iterdir())

    def test_old_ones_go_and_those_in_use_stay(self, tmp_path: Path) -> None:
        """The oldest is current here, after a way back; its packages of others stay, too."""
        root = self._root(tmp_path)
        (root / "current").symlink_to(root / "releases/0.1.0")
        (root / "previous").symlink_to(root / "releases/0.1.3")
        play = {"hosts": "gw1", "tasks": [role_tasks("common", "prune")]}
        code, text = played(tmp_path, play, common_root=str(root), common_keep_releases=2)
        assert code == 0, text
        assert self._names(root / "releases") == ["0.1.0", "0.1.2", "0.1.3"]
        assert self._names(root / "deps") == ["new", "old"]

    @pytest.mark.skipif(os.geteuid() != 0, reason="releases are root's")
    @pytest.mark.parametrize(("runs", "restarted"), [("0.1.2", True), ("0.1.3", False)])
    def test_a_service_that_still_runs_another_one_is_restarted(
        self, tmp_path: Path, runs: str, *, restarted: bool
    ) -> None:
        """The run before ended after it had set the link."""
        root = self._root(tmp_path)
        (root / "current").symlink_to(root / "releases/0.1.3")
        status = tmp_path / "bin/systemctl"
        status.parent.mkdir()
        status.write_text(f"#!/bin/sh\necho 7 {root}/releases/{runs}/bin/python fedmill-agent\n")
        status.chmod(0o755)
        play = {
            "hosts": "gw1",
            "tasks": [role_tasks("common", "activate")],
            "handlers": [
                {
                    "name": "It",
                    "listen": "Release changed",
                    "ansible.builtin.debug": {"msg": "anew"},
                }
            ],
        }
        given = {
            "common_root": str(root),
            "common_version": "0.1.3",
            "common_internal_programs": [],
        }
        code, text = played(tmp_path, play, common_components=["agent"], **given)
        assert code == 0, text
        assert ("anew" in text) == restarted


class TestAgent:
    def test_a_new_release_is_there_before_it_is_asked_to_reload(self) -> None:
        """The one before may not understand the file that comes with it."""
        names = [each["name"] for each in load(ANSIBLE / "roles/agent/handlers/main.yml")]
        assert names == ["Restart the agent", "Reload the agent"]

    @pytest.mark.parametrize(("waits", "restarted"), [("broker.host", True), ("", False)])
    def test_what_a_reload_has_left_waiting_is_taken(
        self, tmp_path: Path, waits: str, *, restarted: bool
    ) -> None:
        """Name and broker are read once: who only reloads goes on with those of before."""
        changes = [{"field": waits, "what": "changed", "restart": True}] if waits else []
        told = tmp_path / "told.json"
        told.write_text(json.dumps({"taken": False, "changes": changes}))
        task = next(task for task in all_tasks("agent") if task.get("register") == "agent_waiting")
        task["ansible.builtin.command"] = {"argv": ["cat", str(told)]}
        play = {
            "hosts": "gw1",
            "tasks": [task],
            "handlers": [{"name": task["notify"], "ansible.builtin.debug": {"msg": "anew"}}],
        }
        code, text = played(tmp_path, play)
        assert code == 0, text
        assert ("anew" in text) == restarted


class TestVariables:
    def test_words_of_the_plant_reach_the_agent_as_they_are(self, tmp_path: Path) -> None:
        """Whatever they are made of, the configuration is TOML."""
        hard = "\" line 'A' \\ \n \N{HAMMER AND WRENCH} \N{FACTORY} # ="
        source = ANSIBLE / "roles/agent/templates/agent.toml.j2"
        copy = {"src": str(source), "dest": str(tmp_path / "agent.toml"), "mode": "0600"}
        defaults = load(ANSIBLE / "roles/agent/defaults/main.yml")
        given = {
            **{name: value for name, value in defaults.items() if "{{" not in str(value)},
            "agent_id": "gw1",
            "agent_internal_socket": hard,
            "agent_labels": {"line": hard, "tags": [hard], "not.one": 1.5},
            "agent_broker_host": hard,
        }
        play = {"hosts": "gw1", "tasks": [{"ansible.builtin.template": copy}]}
        code, text = played(tmp_path, play, **given)
        assert code == 0, text
        written = tomllib.loads((tmp_path / "agent.toml").read_text())
        assert written["agent"]["labels"] == given["agent_labels"]
        assert written["broker"]["host"] == written["training"]["socket"] == hard

    def test_a_wrong_type_is_refused_where_plays_begin(self, tmp_path: Path) -> None:
        """The plant server's play begins with another file than `main`."""
        play = {"hosts": "gw1", "tasks": [role_tasks("coordinator", "prepare")]}
        only = ("--check", "--tags", "always")
        code, text = played(tmp_path, play, *only, coordinator_certificate_days="often")
        assert code != 0
        assert "coordinator_certificate_days" in text

    @pytest.mark.parametrize(("name", "code"), [("gw2", 2), ("gw3", 0)])
    def test_two_gateways_with_one_name_are_refused(
        self, tmp_path: Path, name: str, code: int
    ) -> None:
        """Also where one has it as its own, and the other by its host's name."""
        (tmp_path / "host_vars").mkdir()
        (tmp_path / "host_vars/gw1.yml").write_text(f"agent_id: {name}\n")
        play = {"hosts": "gateways", "tasks": [role_tasks("agent", "preflight")]}
        given, text = played(tmp_path, play)
        assert given == code, text
        assert ("two gateways have the same agent_id" in text) == (code != 0)


class TestPlays:
    def test_an_upgrade_goes_in_waves_and_ends_with_the_first_failure(self) -> None:
        """One gateway, a tenth, the rest."""
        plays = {play["name"]: play for play in load(ANSIBLE / "upgrade.yml")}
        waves = plays["The gateways, in waves"]
        assert waves["hosts"] == "gateways:&upgrade_reached"  # the group alone has no order
        assert waves["serial"] == [1, "10%", "100%"]
        assert waves["max_fail_percentage"] == 0

    def test_an_upgrade_that_fails_leaves_a_coordinator_that_runs(self) -> None:
        """It is stopped for the copy of its database, which nothing may change before."""
        (play,) = [
            each for each in load(ANSIBLE / "upgrade.yml") if each["hosts"] == "plant_server"
        ]
        rescue = play["tasks"][-1]["rescue"]
        assert rescue[0]["ansible.builtin.systemd_service"]["state"] == "started"
        assert "ansible.builtin.fail" in rescue[-1]
        steps = [task["name"] for task in load(ANSIBLE / "roles/coordinator/tasks/prepare.yml")]
        kept = steps.index("Keep")
        assert steps.index("Configure") < kept < steps.index("Make the release current")
        assert kept < next(index for index, name in enumerate(steps) if "authority" in name)

    def test_new_certificates_of_servers_are_used_at_once(self) -> None:
        """A run in their last month issues others: who has read the old ones is restarted."""
        told = {task["name"]: task.get("notify") for task in all_tasks("pki")}
        assert told["Server | Bring it to where the broker reads it"] == "Restart the broker"
        issued = "Authority | Issue the coordinator's certificate"
        assert told[issued] == "Restart the coordinator"
        for role in ("broker", "coordinator"):
            handlers = load(ANSIBLE / "roles" / role / "handlers/main.yml")
            assert handlers[0]["name"] == f"Restart the {role}"
            assert handlers[0]["ansible.builtin.systemd_service"]["state"] == "restarted"

    def test_the_example_has_no_secret(self) -> None:
        """The vault of the example is one to be copied, and says so."""
        files = {path.name for path in (ANSIBLE / "inventory").rglob("*vault*")}
        assert files == {"vault.yml.example"}
