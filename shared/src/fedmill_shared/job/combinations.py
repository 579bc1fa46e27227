# SPDX-License-Identifier: Apache-2.0
"""Methods of a job file that do not go together."""

from collections.abc import Iterator

from fedmill_shared.job import Job
from fedmill_shared.job.model import Autoencoder, Mlp, Pca, Wdcnn
from fedmill_shared.toml.faults import Fault, value_fault
from fedmill_shared.toml.lines import Field
from fedmill_shared.toml.words import show

RANDOM = frozenset({"random-5", "random-10"})
"""Codecs whose kept elements depend on the round alone."""
SPARSE = RANDOM | {"topk-10", "stc-25", "stc-100", "stc-400"}
"""Codecs of which most elements decode to nothing.

They need error feedback, so that what they drop in one round comes in another. The others are
without bias, or nearly.
"""
COORDINATE_WISE = frozenset({"median", "trimmed_mean"})
SCAFFOLD_AGENTS = 50
"""NIID-Bench: SCAFFOLD at 10 % of 100 parties per round falls to guessing."""
SCAFFOLD_SHARE = 0.8


def combination_faults(job: Job) -> Iterator[Fault]:
    """What of ``job`` contradicts itself."""
    yield from _codec_faults(job)
    yield from _loss_faults(job)
    yield from _rule_faults(job)
    yield from _trust_faults(job)
    yield from _scaffold_faults(job)
    yield from _personal_faults(job)
    yield from _serving_faults(job)
    yield from _feature_faults(job)


def uplinks(job: Job) -> set[str]:
    """Codecs that updates of ``job`` may come in."""
    compression = job.compression
    also = {compression.dense} if compression.dense_rounds or compression.plateau_rounds else set()
    return {compression.uplink, *also}


def _codec_faults(job: Job) -> Iterator[Fault]:
    compression = job.compression
    for field, codecs in (("uplink", uplinks(job)), ("downlink", {compression.downlink})):
        sparse = codecs & SPARSE
        if sparse and not compression.error_feedback:
            yield value_fault(
                ("compression", "error_feedback"),
                value=False,
                problem=f"{min(sparse)} as {field} drops most of a delta for good",
                remedy="leave error_feedback on, or choose eden-1 or int4",
            )
    if compression.plateau_rounds and compression.dense == compression.uplink:
        yield value_fault(
            ("compression", "dense"),
            compression.dense,
            "updates come in it all the time, so nothing tells a plateau's rounds from others",
            "name a denser codec than uplink, or remove plateau_rounds",
        )
    problem, remedy = "it saves work only where many deltas are summed", "write eden-1 or stc-25"
    if compression.downlink in RANDOM:
        yield value_fault(("compression", "downlink"), compression.downlink, problem, remedy)
    if compression.dense in RANDOM and compression.dense in uplinks(job) - {compression.uplink}:
        problem += ", and new versions come in it too"
        yield value_fault(("compression", "dense"), compression.dense, problem, remedy)


def _loss_faults(job: Job) -> Iterator[Fault]:
    learning = job.learning
    if job.job.task == "regression" and learning.resample != "none":
        problem = "a regression has no classes"
        yield value_fault(("learning", "resample"), learning.resample, problem, "remove it")
    if learning.known_classes_only and learning.loss in ("logit_adjusted", "focal"):
        yield value_fault(
            ("learning", "known_classes_only"),
            value=True,
            problem=f"it restricts cross_entropy, and loss is {show(learning.loss)}",
            remedy="remove one of them; logit_adjusted spares unknown classes by itself",
        )


def _rule_faults(job: Job) -> Iterator[Fault]:
    robustness, sparse = job.robustness, uplinks(job) & SPARSE
    field: Field = ("robustness", "rule")
    if robustness.rule in COORDINATE_WISE and sparse:
        yield value_fault(
            field,
            robustness.rule,
            f"with {min(sparse)} most agents send nothing for any one weight, and the middle of "
            "mostly zeros is zero",
            "write multi_krum, geometric_median or centred_clipping, or use a dense codec",
        )
    if job.federation.rule == "fedsgd" and robustness.rule == "centred_clipping":
        problem = "fedsgd has no momentum to be near to"
        yield value_fault(field, robustness.rule, problem, "write another rule")
    if robustness.bucket > 1 and robustness.rule in ("mean", "trust"):
        problem = f"the rule {show(robustness.rule)} looks at every update by itself"
        yield value_fault(("robustness", "bucket"), robustness.bucket, problem, "remove it")


def _trust_faults(job: Job) -> Iterator[Fault]:
    """The coordinator's own update is that of an agent which keeps nothing from round to round."""
    if job.robustness.rule != "trust":
        return
    field: Field = ("robustness", "rule")
    if job.learning.personal == "head":
        problem = "the head stays on the agents, and the coordinator's own is never trained"
        yield value_fault(
            field, "trust", problem, "write another rule, or remove learning.personal"
        )
    if job.federation.rule == "scaffold":
        problem = "the coordinator's own update has no control variate to compare with theirs"
        yield value_fault(field, "trust", problem, "write another rule, or fedavg")


def _scaffold_faults(job: Job) -> Iterator[Fault]:
    federation = job.federation
    if federation.rule != "scaffold":
        return
    if federation.goal > SCAFFOLD_AGENTS:
        problem = f"scaffold serves fleets of at most {SCAFFOLD_AGENTS} agents"
        yield value_fault(
            ("federation", "goal"), federation.goal, problem, "write fedavg or fednova"
        )
    if federation.minimum < SCAFFOLD_SHARE * federation.goal:
        yield value_fault(
            ("federation", "minimum"),
            federation.minimum,
            f"with scaffold {SCAFFOLD_SHARE:.0%} of the agents take part in every round: without "
            "them its control variates grow stale and mislead",
            f"write at least {SCAFFOLD_SHARE} times the goal, or another rule",
        )
    if federation.server_learning_rate != 1.0:
        yield value_fault(
            ("federation", "server_learning_rate"),
            federation.server_learning_rate,
            "the control variates of scaffold travel with the weights, and must stay the mean of "
            "those of the agents",
            "remove it; learning.learning_rate scales the steps",
        )
    if federation.over_selection:
        problem = "scaffold wants every agent in every round"
        yield value_fault(
            ("federation", "over_selection"), federation.over_selection, problem, "remove it"
        )
    if job.learning.optimiser != "sgd":
        problem = "the control variates of scaffold are gradients, and only sgd steps along them"
        yield value_fault(
            ("learning", "optimiser"), job.learning.optimiser, problem, 'write optimiser = "sgd"'
        )


def _personal_faults(job: Job) -> Iterator[Fault]:
    learning = job.learning
    if learning.head_epochs and learning.personal != "head":
        problem = "it trains the head that stays on the agent, and none does"
        yield value_fault(
            ("learning", "head_epochs"),
            learning.head_epochs,
            problem,
            'write personal = "head", or remove it',
        )
    if job.federation.rule == "fedsgd":
        idle = {"personal": "none", "ditto": 0.0, "proximal": 0.0}
        for name, nothing in idle.items():
            if (value := getattr(learning, name)) != nothing:
                problem = "fedsgd sends one gradient and trains nothing"
                yield value_fault(("learning", name), value, problem, "write fedavg, or remove it")
    norm = job.model.norm if isinstance(job.model, Wdcnn) else "none"
    if learning.personal == "norm" and norm == "none":
        problem = "the model has no normalisation layers that could stay on the agent"
        remedy = 'write architecture = "wdcnn" with norm = "batch", or personal = "head"'
        yield value_fault(("learning", "personal"), "norm", problem, remedy)
    if norm == "batch" and learning.personal != "norm":
        yield value_fault(
            ("model", "norm"),
            "batch",
            "the batch statistics of one plant do not fit another",
            'write personal = "norm" below [learning], or norm = "group"',
        )


def _serving_faults(job: Job) -> Iterator[Fault]:
    if job.serving.candidates == "best" and not job.evaluation.validation:
        yield value_fault(
            ("serving", "candidates"),
            "best",
            "there are no validation windows to choose by, and the test windows must not choose",
            "write validation = 0.2 or so below [evaluation]",
        )


def _feature_faults(job: Job) -> Iterator[Fault]:
    if job.features.steps and not isinstance(job.model, Mlp | Autoencoder | Pca):
        name = type(job.model).__name__.lower()
        yield value_fault(
            ("features", "steps"),
            job.features.steps,
            f"a {name} looks for patterns in time, and features have none",
            'write architecture = "mlp" below [model], or remove them',
        )
