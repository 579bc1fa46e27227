# SPDX-License-Identifier: Apache-2.0
"""``fedmill ca``: the plant's certificate authority, and certificates for its servers."""

from pathlib import Path

import click
import msgspec

from fedmill_coordinator.cli.authority import Office, config_option, key_option, office
from fedmill_coordinator.cli.listing import when
from fedmill_coordinator.pki.keyfile import make_authority, read_authority_certificate
from fedmill_coordinator.pki.servers import SERVER_DAYS, Issued, issue_broker, issue_coordinator
from fedmill_shared.crypto.certificates import read_certificate

out_option = click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder for key.pem, certificate.pem and ca.pem.",
)
days_option = click.option(
    "--days",
    type=click.IntRange(1, 825),
    default=SERVER_DAYS,
    show_default=True,
    help="How long it is good.",
)
renew_option = click.option("--renew", is_flag=True, help="Also where that there still holds.")


@click.group(name="ca", short_help="Make and show the plant's certificate authority.")
def command() -> None:
    """Make and show the plant's certificate authority; issue certificates for its servers."""


@command.command(name="init")
@config_option
@key_option
@click.option("--name", default="fedmill plant CA", show_default=True, help="What it is called.")
def init(config: Path, ca_key: Path | None, name: str) -> None:
    """Make the authority: its key, its certificate, and an empty list of revocations."""
    place = office(config, ca_key)
    authority = make_authority(place.section, name, place.clock.now_ns())
    place.note("authority.made", name, after=authority.fingerprint)
    if place.is_ours():  # otherwise the coordinator writes it when it starts
        with place.store() as store:
            place.register(store).keep_list()
    click.echo(f"certificate authority {name!r}, until {when(authority.not_after_ns)}")
    click.echo(f"  certificate  {place.section.ca_certificate}")
    click.echo(f"  fingerprint  {authority.fingerprint}")
    click.echo(f"  key          {place.section.ca_key}")
    click.echo("Keep a copy of the key off this machine: whoever has it can be any agent, and")
    click.echo("without it every agent must enrol again.")


@command.command(name="show")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(config: Path, *, as_json: bool) -> None:
    """Show the authority's certificate; its key is not read."""
    facts = read_certificate(read_authority_certificate(office(config).section))
    told = {
        "name": facts.agent,
        "fingerprint": facts.fingerprint,
        "from": when(facts.not_before_ns),
        "until": when(facts.not_after_ns),
    }
    if as_json:
        click.echo(msgspec.json.encode(told).decode())
        return
    for name, said in told.items():
        click.echo(f"{name:<12} {said}")


@command.command(name="issue-broker")
@config_option
@key_option
@click.argument("hosts", nargs=-1, required=True)
@out_option
@days_option
@renew_option
def broker(
    config: Path, ca_key: Path | None, hosts: tuple[str, ...], *, out: Path, days: int, renew: bool
) -> None:
    """Write the broker's certificate and key, for the names and addresses HOSTS of its machine.

    What there is already is left alone if it is for the same HOSTS and holds for another month.
    """
    place = office(config, ca_key)
    with place.store() as store:
        issued = issue_broker(place.register(store), store, hosts, out, days=days, renew=renew)
        _tell(place, issued, f"broker {', '.join(hosts)}")


@command.command(name="issue-coordinator")
@config_option
@key_option
@out_option
@days_option
@renew_option
def coordinator(config: Path, ca_key: Path | None, *, out: Path, days: int, renew: bool) -> None:
    """Write the coordinator's own certificate and key.

    What there is already is left alone if it is for the same id and holds for another month.
    """
    place = office(config, ca_key)
    name = place.config.coordinator.id
    with place.store() as store:
        issued = issue_coordinator(place.register(store), store, name, out, days=days, renew=renew)
        _tell(place, issued, f"coordinator {name}")


@command.command(name="crl")
@config_option
@key_option
def crl(config: Path, ca_key: Path | None) -> None:
    """Write the list of revocations now, for a broker whose coordinator is away."""
    place = office(config, ca_key)
    with place.store() as store:
        written = place.register(store).keep_list(anew=True)
        place.note("revocations.written", place.section.crl, after=f"{written} revoked")
    click.echo(f"{place.section.crl}: {written} revoked")


def _tell(place: Office, issued: Issued, subject: str) -> None:
    until = when(issued.not_after_ns)
    if not issued.new:
        click.echo(f"{issued.folder}: certificate {issued.serial} holds until {until}")
        return
    place.note("certificate.issued", subject, after=f"serial {issued.serial}")
    click.echo(f"{issued.folder}: certificate {issued.serial} for {subject}, until {until}")
