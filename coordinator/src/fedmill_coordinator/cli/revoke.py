# SPDX-License-Identifier: Apache-2.0
"""``fedmill revoke``: an agent is one no longer."""

from pathlib import Path

import click

from fedmill_coordinator.cli.authority import Office, config_option, key_option, office
from fedmill_coordinator.store.base import Store
from fedmill_shared.errors import UsageError

LONGEST_REASON = 500


@click.command(name="revoke", short_help="Take away the certificates of an agent.")
@config_option
@key_option
@click.argument("agent")
@click.option("--reason", required=True, help="Why, for the audit log and the listings.")
@click.option("--serial", help="Only the certificate with this serial number.")
def command(
    config: Path, ca_key: Path | None, agent: str, *, reason: str, serial: str | None
) -> None:
    """Take away the certificates of AGENT: a coordinator that runs hears it no more from now on.

    Its updates that no round has used are refused, its codes are void, and the list for the broker
    is written anew; the broker must read it again. AGENT may also be `broker` or the coordinator's
    id, when that was given a new certificate.
    """
    place = office(config, ca_key)
    reason = reason.strip()[:LONGEST_REASON]
    with place.store() as store:
        known = [each for each in store.certificates(agent) if serial in (None, each.serial)]
        held = [each for each in known if not each.revoked_ns]
        if not known:
            raise UsageError(
                f"AGENT is {agent!r}, which has no such certificate",
                remedy="see `fedmill certificates list --all`",
            )
        # First the deed: a log that is full or damaged must not keep anybody in.
        count = store.revoke(agent, revoked_ns=place.clock.now_ns(), reason=reason, serial=serial)
        click.echo(f"{agent}: {count} certificate{'s' * (count != 1)} revoked")
        try:
            _write_list(place, store)
        finally:
            serials = ", ".join(each.serial for each in held)
            place.note("certificate.revoked", agent, before=serials, after=reason)


def _write_list(place: Office, store: Store) -> None:
    path = place.section.crl
    if not place.has_key():
        click.echo(f"{path}: the coordinator writes it within a second, if it runs")
        return
    place.register(store).keep_list()
    click.echo(f"{path}: written; the broker must read it again (systemctl reload mosquitto)")
