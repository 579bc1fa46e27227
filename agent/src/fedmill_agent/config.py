# SPDX-License-Identifier: Apache-2.0
"""The agent's configuration file: who it is, where its broker is, and which sources it reads."""

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Literal, TypeVar, cast

import msgspec
from msgspec import Meta, Struct

from fedmill_agent import shifts
from fedmill_agent.inference.options import InferenceSection
from fedmill_agent.labels.options import AnyLabels
from fedmill_agent.sources import kinds, options_type
from fedmill_agent.sources.base import SourceOptions
from fedmill_agent.store.ring import LEAST_BYTES, Discard
from fedmill_shared import toml
from fedmill_shared.audit import MAX_BYTES
from fedmill_shared.errors import ConfigError
from fedmill_shared.link.options import TlsSection, settled, tls_faults
from fedmill_shared.overlay import Overlay, laid_over
from fedmill_shared.selector import AGENT, LABEL_NAME, valid_label_name
from fedmill_shared.toml.faults import Fault, name_of, section_of
from fedmill_shared.toml.place import Table
from fedmill_shared.toml.words import show
from fedmill_shared.topics import valid_agent_id

LabelText = Annotated[str, Meta(max_length=200)]
LabelValue = LabelText | bool | int | float | Annotated[list[LabelText], Meta(max_length=32)]

_Options = TypeVar("_Options", bound=Struct)

MOST_LABELS = 32
_LABEL_NAME_RULE = "at most 32 small letters, digits and _, a letter first"


class AgentSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Identity and place.

    Attributes:
        id: name of the agent in the fleet, ``[a-z0-9-]{1,32}``.
        state: folder for windows, models and updates; relative to the configuration file.
        jobs: names of the jobs to take part in; empty for every job that is offered.
        log_level: smallest level that is logged.
        audit_max_bytes: size of the audit log; past it its oldest records go, and a record says so.
        labels: what jobs may select agents by, at most 32, as in
            ``[agent.labels]`` with ``line = "A"`` and ``tags = ["press", "5-axis"]``; names are
            small letters, digits and ``_``, and no word of Python such as ``in``.
    """

    id: Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,32}\Z")]
    state: str = "state"
    jobs: list[str] = []
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    audit_max_bytes: Annotated[int, Meta(ge=1_000_000)] = MAX_BYTES
    labels: dict[str, LabelValue] = {}


class BrokerSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The MQTT broker.

    Attributes:
        host: name or address of the broker.
        port: its TCP port.
        enrol_port: TCP port of its listener for machines that have no certificate yet; only
            ``fedmill-agent enrol`` uses it.
        tls: how the two prove who they are, as ``[broker.tls]``; none for a link in the clear.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535)] = 1883
    enrol_port: Annotated[int, Meta(ge=1, le=65535)] = 8884
    tls: TlsSection | None = None


class TrainingSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The training process, and when it may run.

    Attributes:
        enabled: false on gateways that only score.
        idle_seconds: how long it is kept warm after its last work.
        timeout_seconds: longest time one piece of work may take before the process is ended.
        nice: scheduling priority, so that control work goes first.
        socket: where a training process is to be had from the service manager, as in
            ``"/run/fedmill/trainer.sock"``: it then lives in a service of its own, whose limits
            count, and ``nice`` does not; empty for a child process of the agent.
        max_cpu_percent: no training while the machine's processors are busier than this with other
            work; work with a ``nice`` above 0 does not count; 100 for no limit.
        min_free_bytes: no training while less memory than this is available; the training process
            takes about 230 MB of it; 0 for no limit.
        max_temperature_celsius: no training while the hottest of the machine's sensors is hotter
            than this; 0 for no limit.
        max_pressure_percent: no training while processes of the machine wait for memory or disk a
            larger share of the time than this (the kernel's pressure over the last 10 s); 100 for
            no limit.
        shifts: training only in these times, days and local time as in ``"mon-fri 06:00-14:00"``,
            ``"sat 22:00-06:00"`` (until Sunday morning) or ``"daily 18:00-24:00"``; empty for
            always.
    """

    enabled: bool = True
    idle_seconds: Annotated[float, Meta(ge=0)] = 600.0
    timeout_seconds: Annotated[float, Meta(gt=0)] = 3600.0
    nice: Annotated[int, Meta(ge=0, le=19)] = 10
    socket: Annotated[str, Meta(max_length=100)] = ""
    max_cpu_percent: Annotated[float, Meta(ge=0, le=100)] = 100.0
    min_free_bytes: Annotated[int, Meta(ge=0)] = 300_000_000
    max_temperature_celsius: Annotated[float, Meta(ge=0, le=150)] = 0.0
    max_pressure_percent: Annotated[float, Meta(ge=0, le=100)] = 100.0
    shifts: Annotated[list[str], Meta(max_length=64)] = []


class StoreSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of what is kept on disk, and what is given up to stay within them.

    Attributes:
        max_bytes: size of each job's store of windows, labels and predictions.
        max_age_days: age at which a stored window is discarded.
        predictions_max_bytes: how much of that size predictions may take, at most half of it; 0
            for an eighth.
        predictions_max_age_days: age at which a prediction is discarded.
        samples_max_bytes: size of the raw samples kept of each live source, at least 1 MB; 0 to
            keep none.
        samples_max_age_days: age at which a raw sample is discarded.
        discard: what makes room in a full store: ``oldest`` what is oldest; ``thin`` every second
            of what is in the older half, so that the past stays, more sparsely; ``newest``
            nothing, what comes is refused. What is too old goes in any case.
        min_free_bytes: with less space than this on the disk of ``agent.state`` (or than a tenth
            of a smaller disk) raw samples are given up and predictions take no more space; with
            less than half of it windows take no more either; 0 for no such floor.
    """

    max_bytes: Annotated[int, Meta(ge=1_000_000)] = 2_000_000_000
    max_age_days: Annotated[float, Meta(gt=0)] = 36_500.0
    predictions_max_bytes: Annotated[int, Meta(ge=0)] = 0
    predictions_max_age_days: Annotated[float, Meta(gt=0)] = 36_500.0
    samples_max_bytes: Annotated[int, Meta(ge=0)] = 200_000_000
    samples_max_age_days: Annotated[float, Meta(gt=0)] = 7.0
    discard: Discard = "oldest"
    min_free_bytes: Annotated[int, Meta(ge=0)] = 200_000_000


class TrustSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom the agent trusts; without this section releases and jobs are taken unsigned.

    Attributes:
        root: the ``root.json`` that `fedmill trust init` made; relative to the configuration file.
    """

    root: str


class AgentConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole configuration file of an agent."""

    agent: AgentSection
    broker: BrokerSection = BrokerSection()
    training: TrainingSection = TrainingSection()
    store: StoreSection = StoreSection()
    inference: InferenceSection = InferenceSection()
    trust: TrustSection | None = None
    sources: list[SourceOptions] = msgspec.field(default_factory=list)
    labels: list[AnyLabels] = msgspec.field(default_factory=list)


def schema(names: Collection[str] | None = None) -> type[AgentConfig]:
    """The type of a configuration with sources of the kinds ``names`` only; None: of all there are.

    Options are checked field by field, and no other kind is imported.
    """
    if names is not None and not names:
        return AgentConfig
    sources = GenericAlias(list, (options_type(names),))
    made = msgspec.defstruct(
        "AgentConfig",
        [("sources", sources, msgspec.field(default_factory=list))],
        bases=(AgentConfig,),
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
    )
    return cast("type[AgentConfig]", made)


def load(
    path: Path, *, copy: Path | None = None, overlays: Sequence[Overlay] = (), bare: bool = False
) -> AgentConfig:
    """Read and check ``path``, or a ``copy`` of it; relative paths in it become absolute.

    ``overlays`` lie over what the file says, the last one topmost. ``bare`` reads only who the
    agent is and where its broker is, and passes over all that may be wrong with the rest.

    Raises:
        ConfigError: naming file, line, field, value and what is allowed.
    """
    text = toml.read(copy or path, ConfigError)
    data = toml.parse(text, str(path), ConfigError)
    if bare:
        data = {name: data[name] for name in ("agent", "broker") if name in data}
    data = laid_over(data, overlays) if overlays else data
    config = toml.fit(data, schema(_kinds_in(data)))
    if isinstance(config, Fault):
        raise toml.fault_error(config, text, str(path), ConfigError)
    for fault in _faults(config):
        raise toml.fault_error(fault, text, str(path), ConfigError)
    folder = path.resolve().parent
    section = msgspec.structs.replace(config.agent, state=str(folder / config.agent.state))
    sources = [_absolute(source, folder) for source in config.sources]
    labels = [_absolute(each, folder) for each in config.labels]
    trust = config.trust
    if trust is not None:
        trust = TrustSection(root=str(folder / trust.root))
    tls = settled(config.broker.tls, folder, Path(section.state))
    broker = msgspec.structs.replace(config.broker, tls=tls)
    return msgspec.structs.replace(
        config, agent=section, broker=broker, trust=trust, sources=sources, labels=labels
    )


def _faults(config: AgentConfig) -> Iterator[Fault]:
    if not valid_agent_id(config.agent.id):
        problem = f"agent.id is {show(config.agent.id)}: the name means every agent"
        yield Fault(("agent", "id"), problem, "choose another")
    yield from _label_faults(config.agent)
    yield from tls_faults(config.broker.tls)
    if config.broker.tls is not None and config.inference.sparkplug is not None:
        problem = "[inference.sparkplug] needs a session of its own beside that of [broker.tls]"
        remedy = "leave one of the two out: the broker lets a certificate have one session"
        yield Fault(("inference", "sparkplug"), problem, remedy)
    yield from _shift_faults(config.training)
    yield from _store_faults(config.store)
    yield from _name_faults("sources", [source.name for source in config.sources])
    yield from _name_faults("labels", [each.name for each in config.labels])


def _name_faults(section: str, names: list[str]) -> Iterator[Fault]:
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        other = first.setdefault(name, index)
        if other != index:
            field = (section, index, "name")
            problem = f"{name_of(field)} is {show(name)}: {section}[{other}] has the same name"
            yield Fault(field, problem, "rename one of the two")


def _label_faults(agent: AgentSection) -> Iterator[Fault]:
    field = ("agent", "labels")
    if len(agent.labels) > MOST_LABELS:
        problem = f"{name_of(field)} has {len(agent.labels)} labels: at most {MOST_LABELS} are kept"
        yield Fault(field, problem, "make one list of those that belong together")
    for name in agent.labels:
        if not re.match(LABEL_NAME, name):
            problem = f"{section_of(field)} has the name {show(name)}"
            yield Fault((*field, name), problem, "write " + _LABEL_NAME_RULE)
        elif name == AGENT:
            problem = f"{name_of((*field, name))}: selectors find the agent's id under this name"
            yield Fault((*field, name), problem, "choose another name")
        elif not valid_label_name(name):
            problem = f"{name_of((*field, name))}: {name} is a word that selectors understand"
            yield Fault((*field, name), problem, "choose another name")


def _shift_faults(training: TrainingSection) -> Iterator[Fault]:
    for index, text in enumerate(training.shifts):
        field = ("training", "shifts", index)
        try:
            shifts.parse(text)
        except ConfigError as problem:
            yield Fault(field, f"{name_of(field)}: {problem.message}", problem.remedy)


def _store_faults(store: StoreSection) -> Iterator[Fault]:
    if 0 < store.samples_max_bytes < LEAST_BYTES:
        field = ("store", "samples_max_bytes")
        problem = f"{name_of(field)} is {store.samples_max_bytes}: too little to keep anything"
        yield Fault(field, problem, f"give {LEAST_BYTES} or more, or 0 to keep no raw samples")
    if 2 * store.predictions_max_bytes > store.max_bytes:
        field = ("store", "predictions_max_bytes")
        problem = f"{name_of(field)} is {store.predictions_max_bytes}: windows need some room too"
        yield Fault(field, problem, f"give at most {store.max_bytes // 2}, half of store.max_bytes")


def _kinds_in(data: Table) -> set[str] | None:
    """The kinds of source that a file names; None where it names one that there is not."""
    sources = data.get("sources", [])
    if not isinstance(sources, list) or not all(isinstance(each, dict) for each in sources):
        return None
    named = [each.get("kind") for each in sources]
    if not all(isinstance(kind, str) for kind in named):
        return None
    return set(named) if kinds(named).keys() >= set(named) else None


def _absolute(source: _Options, folder: Path) -> _Options:
    """``source``, or where labels come from, with its files: ``path``, ``truth``, ``..._file``."""
    changes = {
        field: str(folder / value)
        for field in source.__struct_fields__
        if (field in ("path", "truth") or field.endswith("_file"))
        and (value := getattr(source, field))
    }
    return msgspec.structs.replace(source, **changes) if changes else source
