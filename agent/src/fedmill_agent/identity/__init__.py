# SPDX-License-Identifier: Apache-2.0
"""Who the agent is: its key and certificate on disk, how it gets them and how it renews them.

The daemon imports ``opening``, and with TLS ``folder``, ``facts``, ``renewal`` and ``watch``, which
know nothing of cryptography; what needs it runs for a moment in a child (``children``,
``__main__``).
"""
