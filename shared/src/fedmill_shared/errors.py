# SPDX-License-Identifier: Apache-2.0
"""Every error a person can meet, and the exit code it ends a command with.

::

    FedmillError (1)                    something the operator can act on
    ├── UsageError (2)                  the command line itself
    ├── ConfigError (10)                an agent or coordinator configuration file
    ├── JobError (11)                   a job file
    ├── SchemaError (12)                signals or units that do not fit the job
    ├── DataError (13)                  recordings, windows or labels that cannot be used
    ├── ModelError (14)                 a model that does not fit, or fails parity or its canary
    ├── FrameError (15)                 a truncated, corrupt or foreign frame or message
    ├── ProtocolError (16)              the other side speaks another version of the protocol
    ├── BrokerError (20)                the MQTT broker
    ├── StoreError (21)                 a state folder or database
    ├── TrainerError (22)               the training process
    ├── SourceError (23)                a device or server that a source reads
    ├── IdentityError (24)              a key, a certificate or an enrolment
    ├── TrustError (25)                 signed metadata, a bundle or a signature
    ├── AuditError (26)                 an audit log whose chain is broken
    └── Interrupted (130)               Ctrl-C or SIGTERM ended the work early

The table in ``docs/exit-codes.md`` is generated from these classes.
"""


class FedmillError(Exception):
    """An error with a remedy: what went wrong, and what the operator can do about it."""

    exit_code = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        """``message`` names the file, the field and the value; ``remedy`` is the next action."""
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


class UsageError(FedmillError):
    """The command line asks for something impossible."""

    exit_code = 2


class ConfigError(FedmillError):
    """A configuration file of an agent or a coordinator is wrong."""

    exit_code = 10


class JobError(FedmillError):
    """A job file is wrong."""

    exit_code = 11


class SchemaError(FedmillError):
    """Signals or units of an agent do not fit the job."""

    exit_code = 12


class DataError(FedmillError):
    """Recordings, windows or labels are missing or cannot be used."""

    exit_code = 13


class ModelError(FedmillError):
    """A model does not fit the schema, or fails the parity or the canary check."""

    exit_code = 14


class FrameError(FedmillError):
    """A frame, block or message is truncated, corrupt, foreign or larger than allowed."""

    exit_code = 15


class ProtocolError(FedmillError):
    """Agent and coordinator have no version of the protocol in common."""

    exit_code = 16


class BrokerError(FedmillError):
    """The MQTT broker cannot be reached or refuses us."""

    exit_code = 20


class StoreError(FedmillError):
    """A state folder or database cannot be read or written."""

    exit_code = 21


class TrainerError(FedmillError):
    """The training process failed, was killed or did not answer."""

    exit_code = 22


class SourceError(FedmillError):
    """A device or server that a source reads cannot be reached, or refuses us."""

    exit_code = 23


class IdentityError(FedmillError):
    """A key or certificate is missing, expired, revoked or not ours; or an enrolment failed."""

    exit_code = 24


class TrustError(FedmillError):
    """What should be signed is not, not by whom we trust, too old, or was tampered with."""

    exit_code = 25


class AuditError(FedmillError):
    """An audit log was changed, shortened or cannot be read."""

    exit_code = 26


class Interrupted(FedmillError):  # noqa: N818  named for what happened
    """Ctrl-C or SIGTERM ended the work early; the next start continues."""

    exit_code = 130
