# SPDX-License-Identifier: Apache-2.0
"""Notices that what an agent sees has changed since its model was made, and acts on it.

Only imported for jobs that watch something. Nothing here uses ``numpy.random``, which would cost
the daemon 7 MiB.
"""
