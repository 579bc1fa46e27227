# SPDX-License-Identifier: Apache-2.0
"""Local learning: losses, optimisers and what an agent does in one round. Imports torch."""
