# SPDX-License-Identifier: Apache-2.0
"""fedmill agent: reads sensor streams on a gateway, scores them and learns from them."""

from fedmill_shared.lean import without

with without(
    absent=["typing_extensions"],  # all that msgspec takes from it is in typing as well
    later={
        "ipaddress": {},  # urllib.parse, which pathlib imports, checks [::1] with it
        "inspect": {"signature": lambda _class: ""},  # docstring of a data class that has none
    },
):
    import dataclasses as dataclasses
    import pathlib as pathlib

    import msgspec as msgspec

__version__ = "0.1.0"
