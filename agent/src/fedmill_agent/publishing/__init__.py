# SPDX-License-Identifier: Apache-2.0
"""Tells other systems of the plant what the model said; imported only where it is wanted."""
