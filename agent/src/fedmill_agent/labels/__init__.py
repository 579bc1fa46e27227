# SPDX-License-Identifier: Apache-2.0
"""Ground truth that comes later, from people and from other systems, on its way to the windows."""
