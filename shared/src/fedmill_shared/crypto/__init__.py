# SPDX-License-Identifier: Apache-2.0
"""Keys, signatures, certificates: the only importer of ``cryptography`` in fedmill-shared.

It costs a process 8 MiB, and certificates 2 more, so the agent's daemon leaves all of it to
children: the trainer signs, what enrols and renews runs for a moment.
"""
