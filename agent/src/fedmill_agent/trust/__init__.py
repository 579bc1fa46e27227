# SPDX-License-Identifier: Apache-2.0
"""Whom an agent trusts: signed metadata is checked by a child process, and its word enforced.

The daemon imports neither TUF nor cryptography, which would cost it 20 MiB for months: it puts what
it hears into a folder, and a child that lives for a second checks it and leaves what is signed.
"""
