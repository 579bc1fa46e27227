# SPDX-License-Identifier: Apache-2.0
"""What a model must show before it scores here, and how it takes the place of the one before."""
