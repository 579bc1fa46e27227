# SPDX-License-Identifier: Apache-2.0
"""Labels of the agent's own windows move the model's last layer, between rounds and within bounds.

Numpy alone: nothing here trains the backbone, and the federation's version is never touched.
"""
