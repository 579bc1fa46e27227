# SPDX-License-Identifier: Apache-2.0
"""``fedmill demo``: broker, coordinator, agents and baselines of a whole federation on one machine.

Agents are started as their own program, never imported: the demo is the same as a deployment.
"""
