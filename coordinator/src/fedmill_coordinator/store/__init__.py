# SPDX-License-Identifier: Apache-2.0
"""The coordinator's durable state: rows in a database, bytes in a content-addressed folder."""
