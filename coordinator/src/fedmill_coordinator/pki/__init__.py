# SPDX-License-Identifier: Apache-2.0
"""The plant's certificate authority: who is an agent of this plant, and who is one no longer."""
