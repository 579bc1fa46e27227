# SPDX-License-Identifier: Apache-2.0
"""What tells clusters of agents apart, as a selector says it: one of their labels, or their ids."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fedmill_shared.errors import JobError
from fedmill_shared.job.clusters import word_of
from fedmill_shared.selector import AGENT, Label, labels_of, literal, parse

Labels = Mapping[str, Mapping[str, Label]]
"""Agent -> its labels."""
Clusters = Sequence[Sequence[str]]
"""Agents of each cluster."""


@dataclass(frozen=True, slots=True)
class Telling:
    """A selector for each cluster.

    Attributes:
        label: the label that tells them apart; ``agent`` if only their ids do.
        conditions: one for each cluster, true for its agents and for no other of them.
        words: what each cluster may be called; numbers where its label is no single word.
    """

    label: str
    conditions: tuple[str, ...]
    words: tuple[str, ...]


def telling(clusters: Clusters, labels: Labels) -> Telling:
    """What tells ``clusters`` apart: the label with the fewest values, or the ids of the agents.

    A label counts if every agent has it and no value of it is found in two clusters, unless it is
    another name for the agents themselves. Of a list, one item must be common to all agents of a
    cluster, and no other agent may have it.
    """
    found = [
        (cost, name, made)
        for name in _common(clusters, labels)
        for cost, made in [_by_label(name, clusters, labels) or (0, None)]
        if made is not None and _holds(made, clusters, labels)
    ]
    if found:
        return min(found, key=lambda each: each[:2])[2]
    return _named(AGENT, [[literal(agent) for agent in sorted(each)] for each in clusters])


def _common(clusters: Clusters, labels: Labels) -> list[str]:
    """Names of the labels that all agents have."""
    each = [set(labels.get(agent, ())) for cluster in clusters for agent in cluster]
    return sorted(set.intersection(*each) - {AGENT}) if each else []


def _by_label(name: str, clusters: Clusters, labels: Labels) -> tuple[int, Telling] | None:
    """What the label says of the clusters, and how many values it takes for that."""
    values = [[labels[agent][name] for agent in cluster] for cluster in clusters]
    if any(isinstance(value, list) for each in values for value in each):
        items = _items(values)
        tests = tuple(f"{literal(item)} in {name}" for item in items)
        return (len(items), Telling(name, tests, _words(items))) if items else None
    texts = [
        sorted({literal(value) for value in each if not isinstance(value, list)}) for each in values
    ]
    every = {text for each in texts for text in each}
    agents = sum(map(len, clusters))
    if len(every) < sum(map(len, texts)) or len(clusters) < len(every) == agents:
        return None
    return len(every), _named(name, texts)


def _items(values: Sequence[Sequence[Label]]) -> list[str]:
    """Of each cluster the first item that all of it have and nobody else; none if one has none."""
    sets = [[set(v) if isinstance(v, list) else set[str]() for v in each] for each in values]
    items = []
    for place, own in enumerate(sets):
        others = set[str]().union(*(v for i, each in enumerate(sets) if i != place for v in each))
        items.extend(sorted(set.intersection(*own) - others)[:1])
    return items if len(items) == len(sets) else []


def _named(label: str, texts: Sequence[Sequence[str]]) -> Telling:
    """``texts`` are the values of each cluster, as a selector writes them."""
    conditions = tuple(
        f"{label} == {each[0]}" if len(each) == 1 else f"{label} in [{', '.join(each)}]"
        for each in texts
    )
    single = label != AGENT and all(len(each) == 1 for each in texts)
    return Telling(label, conditions, _words([each[0] if single else "" for each in texts]))


def _words(values: Sequence[str]) -> tuple[str, ...]:
    """Each value as it may stand in the name of a job; numbers if they are no such words."""
    words = [word_of(value) for value in values]
    if "" in words or len(set(words)) < len(words):
        return tuple(str(place) for place in range(1, len(words) + 1))
    return tuple(words)


def _holds(made: Telling, clusters: Clusters, labels: Labels) -> bool:
    """Whether the conditions can be written, and mean what they should."""
    return all(_holds_for(agent, place, made, labels) for agent, place in _placed(clusters))


def _holds_for(agent: str, place: int, made: Telling, labels: Labels) -> bool:
    known = labels_of(agent, labels[agent])
    try:
        meant = [parse(condition).matches(known) for condition in made.conditions]
    except JobError:
        return False
    return meant == [other == place for other in range(len(meant))]


def _placed(clusters: Clusters) -> Iterator[tuple[str, int]]:
    for place, cluster in enumerate(clusters):
        for agent in cluster:
            yield agent, place
