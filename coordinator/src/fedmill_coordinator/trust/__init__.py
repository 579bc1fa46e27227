# SPDX-License-Identifier: Apache-2.0
"""Signed metadata of a plant (TUF): who may sign what, and the folder that it lies in.

The operator's commands hold the operator's keys for a moment; the daemon holds those of
``snapshot``, ``timestamp`` and ``models``, and can sign releases and nothing else.
"""
