# SPDX-License-Identifier: Apache-2.0
"""Reads what is told, as Prometheus does."""

from prometheus_client.parser import text_string_to_metric_families

from fedmill_coordinator.exposition.collector import METRICS

Told = dict[str, dict[tuple[str, ...], float]]
LABELS = {metric.name: metric.labels for metric in METRICS}


def read(text: str) -> Told:
    """Name -> values of its labels, in the order they are declared -> value."""
    found: Told = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = LABELS[sample.name]
            assert sample.labels.keys() == set(labels)
            values = tuple(sample.labels[label] for label in labels)
            assert values not in found.setdefault(sample.name, {}), f"{sample.name} twice"
            found[sample.name][values] = sample.value
    return found
